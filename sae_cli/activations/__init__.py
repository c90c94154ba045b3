"""Where batches of activations come from: harvests, a running model, a known truth."""
