"""Several jobs in one process: what they need, what they give, what they warn of."""
