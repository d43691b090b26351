"""One file per competition; `spec.load_competition` finds it by its module name or by a path."""
