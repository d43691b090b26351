"""One fold, from its images to its weights and out-of-fold predictions."""
