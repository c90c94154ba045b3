"""Features as classifiers of concepts."""
