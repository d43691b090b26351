"""A search for good settings of train, with Optuna, on images that the reported score does not use."""
