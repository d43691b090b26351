"""auto from its first look at the data to the submission; each stage is done once, also after a kill."""

from contextlib import suppress

from src.competitions.registry import load_competition
from src.competitions.spec import check_has_answers
from src.config import AutoConfig
from src.core.errors import InputError
from src.core.flags import check_name, check_range
from src.core.locking import locked
from src.core.runtime import set_up_process
from src.planning.answering import evaluate, predict
from src.planning.choosing import plan, prepare
from src.planning.record import AutoRecord, Clock, open_record
from src.planning.training import train
from src.planning.work import Work
from src.runs.paths import RunPaths


def run_auto(config: AutoConfig, started: float) -> AutoRecord:
    """Do all of it, or what a killed auto has left; `started` is time.monotonic(). Raises InputError."""
    check_name("run-name", config.run_name)
    check_range("minutes", config.minutes, 0.1)
    if config.weights is not None and not config.weights.is_file():
        raise InputError(f"--weights {config.weights}: no such file")
    competition = load_competition(config.competition)
    check_has_answers(competition)
    root = config.runs_dir / competition.name
    file = root / f"{config.run_name}.json"
    root.mkdir(parents=True, exist_ok=True)
    with locked(file, "is running auto here"):
        record = open_record(file, config, competition.name)
        work = Work(config=config, record=record, clock=Clock(record, file, started), root=root)
        if record.submission:
            print(f"already done: {_result(work)}")
            return record
        try:
            _run(work)
        except BaseException:
            with suppress(OSError):
                work.clock.save()
            raise
    return record


def _run(work: Work) -> None:
    set_up_process()
    prepare(work)
    if not work.record.is_planned:
        plan(work)
    train(work)
    evaluate(work)
    predict(work)
    print("the same by hand, without a limit of time:")
    print("\n".join(f"  {line}" for line in work.record.commands))
    print(_result(work))


def _result(work: Work) -> str:
    record = work.record
    score = "undefined" if record.score is None else f"{record.score:.4f}"
    report = RunPaths(folder=work.root / str(record.answered_by)).report
    return (
        f"{record.seconds_used / 60:.2f} of {work.config.minutes:g} minutes used; out of fold {score}\n"
        f"submission: {record.submission}\nreport: {report}\nwhat was chosen and why: {work.clock.file}"
    )
