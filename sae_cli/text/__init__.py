"""Documents, and how they become rows of tokens."""
