"""How a dictionary is measured in its language model: what `sae eval` is made of, and other commands use."""
