"""A training, followed from its files alone."""
