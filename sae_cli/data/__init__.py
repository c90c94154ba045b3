"""Corpora -> token rows -> activation batches."""
