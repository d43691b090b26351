"""The end of a search: the best and the default settings, trained once without the reported fold and scored on it."""

import math
import shlex

from optuna.trial import FrozenTrial

from src.config import TrainConfig
from src.core.errors import InputError
from src.core.flags import flags_of
from src.core.runtime import choose_compute, explained
from src.data.prepared import Prepared
from src.inference.ensemble import out_of_fold
from src.metrics import goodness
from src.report.intervals import difference_over_seeds
from src.runs.run import Run
from src.searching.record import Report
from src.searching.trials import Search
from src.sweeping.plan import parse_train, path_flags
from src.training.fold import train_fold
from src.training.resume import run_to_train


def best_config(search: Search, best: FrozenTrial) -> TrainConfig:
    """Return the config that trains all folds with the best settings."""
    return _config(search, f"{search.config.run_name}-trial-{best.number}", search.space.flags(best.params))


def _config(search: Search, run_name: str, flags: list[str]) -> TrainConfig:
    return parse_train([*path_flags(search.config), "--run-name", run_name, *flags])


def train_command(config: TrainConfig) -> str:
    """Return the command that trains with these settings."""
    competition = f" --competition {shlex.quote(config.competition)}"
    return f"python -m src.train{competition}{flags_of(config).replace(competition, '', 1)}"


def compare(search: Search, prepared: Prepared, best: FrozenTrial) -> Report:
    """Train both on the reported fold, unless that is done, and return what they score there. Raises InputError."""
    number, space = search.config.report_fold, search.space
    configs = [_config(search, f"{search.config.run_name}-default", space.flags({})), best_config(search, best)]
    found = [_trained(config, prepared, number) for config in configs]
    default, chosen = (out_of_fold(run, (number,)) for run in found)
    difference, half = difference_over_seeds([default], [chosen])
    sign = 1 if goodness(1.0, prepared.competition) > 0 else -1
    return Report(
        trial=best.number,
        best_run=configs[1].run_name,
        default_run=configs[0].run_name,
        best=chosen.score,
        default=default.score,
        difference=sign * difference,
        difference_95=half,
        num_images=len(chosen.target),
    )


def _trained(config: TrainConfig, prepared: Prepared, number: int) -> Run:
    """Train a fold of the search's own snapshot, whatever prepare did meanwhile."""
    run = run_to_train(config)
    if run.record is None:
        run = Run(prepared=prepared, name=config.run_name)
    elif run.prepared.id != prepared.id:
        raise InputError(f"{run.folder}: belongs to snapshot {run.prepared.id}, not to the search's; move it elsewhere")
    with explained(config.deterministic):
        return train_fold(config, run, [number], choose_compute(config.device, config.precision))[0]


def lines(report: Report, num_reports: int, inner: float, direction: str) -> list[str]:
    """Return what is printed of a report."""
    low, high = report.difference - report.difference_95, report.difference + report.difference_95
    if math.isnan(report.best) or math.isnan(report.default):
        return [f"on the reported fold{direction}: the score is not defined; give another --report-fold"]
    sure = "the interval excludes 0" if low > 0 or high < 0 else "the interval includes 0: this may be chance"
    found = [
        f"on the reported fold, whose {report.num_images:,} images took no part in the search{direction}:",
        f"  default settings  {report.default:.4f}  ({report.default_run})",
        f"  best of the search {report.best:.4f}  ({report.best_run}; it had {inner:.4f} on the inner folds)",
        f"  gain {report.difference:+.4f}, 95% interval {low:+.4f} to {high:+.4f} (paired); {sure}",
    ]
    if num_reports > 1:
        found.append(f"  note: this fold was looked at {num_reports} times; the best of them is optimistic")
    return found
