"""Losses, schedules, initialization and the training loop."""
