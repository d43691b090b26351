"""One file per competition; `registry.load_competition` finds it by its module name or by a path."""
