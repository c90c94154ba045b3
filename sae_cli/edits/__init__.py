"""Changes to dictionaries and to language models."""
