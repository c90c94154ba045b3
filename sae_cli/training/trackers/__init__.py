"""Trackers: other tools that show training curves. What they keep lies beside runs, not in them."""
