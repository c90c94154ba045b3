"""Dictionaries: one architecture a file under one base."""
