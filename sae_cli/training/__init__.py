"""Losses, schedules, initialisation and the training loop."""
