"""Many trainings at once: every combination of settings, seeds and folds is one task."""
