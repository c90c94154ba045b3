"""Concepts: what is true of some characters of a text and not of the others, and which tokens it is true of."""
