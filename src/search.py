"""Search for good settings of train with Optuna, and measure their gain on held-out images.

    python -m src.search --space lr=5e-4..8e-3:log augment.rotate=0..15 dropout=0..0.5 epochs=12 --trials 30
    python -m src.search --competition demo --space lr=1e-3..1e-2:log backbone=string_cnn pretrained=False epochs=2 \\
        --trials 5                                                          (two minutes on a CPU)

Trials see only the images outside --report-fold, dealt into inner folds; those that lag behind are pruned. At the end
the best and the default settings are trained once without the reported fold and compared on it. The same command
resumes, also after a kill. Writes runs/<competition>/searches/<run-name>/: search.json, study.log (Optuna's journal),
search.html, logs/; and the runs <run-name>-trial-<number> and <run-name>-default.
"""

from src.config import SearchConfig
from src.core import cli
from src.core.flags import check_name, check_range


def main(config: SearchConfig) -> None:
    """Search. Raises InputError for an impossible space, other flags than the search began with, a missing package."""
    import math
    import time

    from src.competitions.registry import load_competition
    from src.core.locking import locked
    from src.core.modules import check_extra

    check_extra("src.search", "search", "optuna")
    from src.searching.session import run_search

    check_name("run-name", config.run_name)
    for name, low in (("trials", 1), ("workers", 1), ("cores_per_worker", 1), ("inner_folds", 2), ("seed", 0)):
        check_range(name.replace("_", "-"), getattr(config, name), low)
    check_range("minutes", config.minutes, 0)
    deadline = math.inf if config.minutes is None else time.monotonic() + 60 * config.minutes
    folder = config.runs_dir / load_competition(config.competition).name / "searches" / config.run_name
    with locked(folder, "is searching here"):
        run_search(config, folder, deadline)


if __name__ == "__main__":
    cli.run(main, SearchConfig, __doc__)
