"""The kinds of runs, and what lies in each."""
