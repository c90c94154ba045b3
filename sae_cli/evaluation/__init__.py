"""Measuring a dictionary on a language model, or on a known truth."""
