"""The last stages of auto: evaluate, predict, and the commands that do the same."""

import json
import shlex

from src.config import AutoConfig
from src.core.writing import write_text
from src.data.prepared import open_prepared
from src.inference.ensemble import out_of_fold
from src.metrics import goodness
from src.planning.looking import train_parts
from src.planning.record import quoted, script
from src.planning.work import Work
from src.runs.paths import RunPaths
from src.runs.run import open_run


def evaluate(work: Work) -> None:
    """Choose which run answers, and evaluate it. Raises InputError if evaluate fails."""
    record = work.record
    name, folds = _answering(work)
    record.answered_by, record.folds_trained = name, folds
    work.command("evaluate", *work.paths, "--run-name", name, *work.folds(folds))
    scores = json.loads(RunPaths(folder=work.root / name).scores.read_text(encoding="utf-8"))
    record.score = scores["score"]


def _answering(work: Work) -> tuple[str, list[int]]:
    """Return the run that answers and its folds: the linear probe if it is better on the fold that both have."""
    record, folds = work.record, work.record.folds_trained
    if not record.probe:
        return record.runs[-1], folds
    first, names = open_prepared(work.config).fold_numbers("all")[0], [record.runs[-1], record.probe]
    full, probe = (out_of_fold(open_run(work.config, name), (first,)) for name in names)
    better = goodness(probe.score, probe.competition) > goodness(full.score, full.competition)
    scores = f"{full.score:.4f} by {names[0]}, {probe.score:.4f} by the linear probe"
    work.clock.tell(f"on fold {first}: {scores}; {names[better]} answers", record.reasons)
    return (record.probe, [first]) if better else (record.runs[-1], folds)


def predict(work: Work) -> None:
    """Write the submission: with fewer views or folds if there is no time for all. Raises InputError if it fails."""
    record, data, clock = work.record, work.data(), work.clock
    folds, views = list(record.folds_trained), data.num_views
    if views > 1 and work.predict_seconds(data, len(folds), views) > clock.left:
        clock.tell("predict: the plain image only, for lack of time; the score is with all views", record.events)
        views = 1
    while len(folds) > 1 and work.predict_seconds(data, len(folds), views) > clock.left:
        clock.tell(f"predict: fold {folds.pop()} is skipped for lack of time", record.events)
    parts = _predict_parts(work, folds, views < data.num_views)
    work.command("predict", *parts)
    record.submission = str(work.config.submissions_dir / work.root.name / f"{work.config.run_name}.csv")
    record.commands = [quoted(line) for line in _commands(work, parts)]
    write_text(clock.file.with_suffix(".sh"), script(record.commands, record.events))
    clock.save()


def _predict_parts(work: Work, folds: list[int], plain: bool) -> list[str]:
    config, name = work.config, str(work.record.answered_by)
    default = config.submissions_dir == AutoConfig().submissions_dir
    return [
        *work.paths,
        *([] if default else ["--submissions-dir", str(config.submissions_dir)]),
        *("--run-name", name),
        *(["--name", config.run_name] if name != config.run_name else []),
        *work.folds(folds),
        *(["--no-tta"] if plain else []),
        *([] if config.device == "auto" else ["--device", config.device]),
    ]


def _commands(work: Work, predicted: list[str]) -> list[list[str]]:
    record, name = work.record, str(work.record.answered_by)
    flags = record.probe_flags if name == record.probe else {**record.flags, "epochs": str(record.epochs)}
    train = ["src.train", *train_parts(work.config, flags, name)]
    chosen = work.folds(record.folds_trained)
    trained = [train] if not chosen else [[*train, "--fold", str(number)] for number in record.folds_trained]
    return [
        ["src.prepare", *work.paths, *shlex.split(record.prepare_flags)],
        *trained,
        ["src.evaluate", *work.paths, "--run-name", name, *chosen],
        ["src.predict", *predicted],
    ]
