"""search.html: history, importances, each setting against the score, curves of all trials, gain on the report fold."""

import math
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from src.metrics import metric_of
from src.pages.page import bar_chart, line_chart, render, scatter_chart
from src.searching.record import SearchRecord
from src.searching.space import as_text
from src.searching.study import best_trial
from src.searching.trials import Search, outcome

MIN_FOR_IMPORTANCES = 6  # finished trials
MAX_CURVES = 40  # trials whose curves are drawn: the best


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the share of the score's variance that each setting explains (fANOVA), or nothing if it cannot be told.

    Source: Hutter et al., An Efficient Approach for Assessing Hyperparameter Importance, 2014.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < MIN_FOR_IMPORTANCES or len({trial.value for trial in finished}) < 2:
        return {}
    if len(finished[0].params) == 1:
        return dict.fromkeys(finished[0].params, 1.0)
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # imports scikit-learn

    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _history(study: optuna.Study, better: Any, y: str) -> dict[str, Any]:
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.intermediate_values]
    values = [trial.value for trial in finished]
    best = better.accumulate(values) if values else []
    last = [trial.intermediate_values[max(trial.intermediate_values)] for trial in pruned]
    series = {
        "finished": ([trial.number for trial in finished], values),
        "pruned (last score)": ([trial.number for trial in pruned], last),
    }
    chart = scatter_chart("Score of each trial", "trial", y, {name: one for name, one in series.items() if one[0]})
    if len(finished) > 1:
        chart["line"] = {"name": "best so far", "data": [[a.number, b] for a, b in zip(finished, best, strict=True)]}
    return chart


def _slices(study: optuna.Study, search: Search, y: str) -> list[dict[str, Any]]:
    """Return a chart for each setting: its value against the score of every finished trial."""
    trials, charts = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), []
    for name, distribution in search.space.searched.items():
        pairs = [(trial.params[name], trial.value, trial.number) for trial in trials if name in trial.params]
        more: dict[str, Any] = {"labels": {"trials": [f"trial {number}" for _, _, number in pairs]}}
        xs: list[Any] = [value for value, _, _ in pairs]
        if isinstance(distribution, CategoricalDistribution):
            more["xnames"] = [str(choice) for choice in distribution.choices]
            xs = [more["xnames"].index(str(value)) for value in xs]
        else:
            more["xlog"] = bool(getattr(distribution, "log", False))
        charts.append(scatter_chart(name, name, y, {"trials": (xs, [value for _, value, _ in pairs])}, **more))
    return charts


def _curves(study: optuna.Study, search: Search, y: str) -> dict[str, Any] | None:
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.intermediate_values]
    sign = -1 if search.maximises else 1
    trials = sorted(trials, key=lambda one: sign * list(one.intermediate_values.values())[-1])[:MAX_CURVES]
    best = best_trial(study)
    series = {}
    for trial in sorted(trials, key=lambda one: one.number):
        steps = sorted(trial.intermediate_values)
        name = "best" if best and trial.number == best.number else f"trial {trial.number}"
        series[name] = (steps, [trial.intermediate_values[step] for step in steps])
    if not series:
        return None
    x = "tenth of the training" if search.varies_epochs else "epoch"
    return line_chart("Score during training, on the first inner fold", x, y, series, emphasis="best")


def _row(trial: FrozenTrial, names: list[str]) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else None
    return {
        "number": trial.number,
        "state": {TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}.get(
            trial.state, trial.state.name.lower()
        ),
        "score": trial.value,
        "outcome": "" if trial.state == TrialState.COMPLETE and "same_as" not in trial.user_attrs else outcome(trial),
        "values": [as_text(trial.params.get(name, "")) for name in names],
        "seconds": seconds,
    }


def render_search(search: Search, study: optuna.Study, record: SearchRecord, command: str) -> str:
    """Return the page."""
    metric = metric_of(search.inner.prepared.competition)
    y = metric.name.replace("_", " ")
    trials = study.get_trials(deepcopy=False)
    names = list(search.space.searched)
    found = importances(study)
    order = sorted(found, key=lambda name: -found[name])
    bars = bar_chart("Share of the variance explained", "", "", order, {"importance": [found[name] for name in order]},
                     horizontal=True) if found else None  # fmt: skip
    return render(
        "search.html",
        title=f"{search.inner.prepared.competition.name} · {search.config.run_name}",
        metric=y + ("" if metric.greater_is_better else " (less is better)"),
        best=best_trial(study),
        names=names,
        fixed=search.space.fixed,
        record=record,
        report=record.reports[-1] if record.reports else None,
        counts={name: sum(trial.state == state for trial in trials) for name, state in STATES.items()},
        history=_history(study, np.maximum if search.maximises else np.minimum, y),
        bars=bars,
        curves=_curves(study, search, y),
        slices=_slices(study, search, y),
        rows=[_row(trial, names) for trial in trials],
        num_folds=search.inner.num_folds,
        num_images=len(search.inner.prepared.labels),
        command=command,
    )


STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL,
          "being trained": TrialState.RUNNING}  # fmt: skip
