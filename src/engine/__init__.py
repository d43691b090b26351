"""One training step, one inference path, and what keeps them."""
