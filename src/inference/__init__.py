"""From a trained run to probabilities, and from those to a submission."""
