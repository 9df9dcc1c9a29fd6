"""Ways to look inside a model."""
