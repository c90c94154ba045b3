"""Configuration schemas, one file a group. Nothing here imports torch."""
