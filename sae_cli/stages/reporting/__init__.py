"""What `sae report` reads from runs, as the values that a page is made of."""
