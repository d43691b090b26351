"""Hand in a submission, and keep a ledger of their out-of-fold and leaderboard scores.

    python -m src.submit --name baseline                          (Kaggle, or prints what to upload where)
    python -m src.submit --name baseline --poll 5                 (waits up to 5 minutes for Kaggle's public score)
    python -m src.submit --name baseline --leaderboard 0.912      (enters a score; --private once that is known)

Writes submissions/<competition>/ledger.csv and ledger.html. A file is refused if it is not the one that its JSON
describes, if the organiser would refuse it, or if it was handed in before.
"""

import math
import shlex
from typing import TYPE_CHECKING

from src.config import SubmitConfig
from src.core import cli
from src.core.flags import check_range

if TYPE_CHECKING:
    from src.handin.checked import Expected, Submission
    from src.handin.kaggle import Kaggle
    from src.handin.ledger import Ledger, Row


def main(config: SubmitConfig) -> None:
    """Hand in, or enter scores. Raises InputError for a file that is refused, and with the Kaggle client's reason."""
    from src.competitions.registry import load_competition
    from src.core.errors import InputError
    from src.core.flags import check_name
    from src.core.locking import locked
    from src.handin.ledger import Ledger, score_text
    from src.metrics import metric_of

    check_name("name", config.name)
    check_range("poll", config.poll, 0, 24 * 60)
    competition = load_competition(config.competition)
    metric = metric_of(competition)
    for flag, value in (("leaderboard", config.leaderboard), ("private", config.private)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"--{flag} {value}: must be a finite number")
        if value is not None and value > 1 and metric.greater_is_better and isinstance(competition.metric, str):
            raise InputError(f"--{flag} {value:g}: {metric.name} is at most 1; enter a share, such as 0.985")
    ledger = Ledger(config.submissions_dir / competition.name / "ledger.csv")
    if config.leaderboard is None and config.private is None:
        with locked(ledger.path.with_name(".submit"), "is handing in a submission"):
            with locked(ledger.path.with_name(config.name), "is writing this submission", wait=True):
                client, message = _hand_in(config, ledger)
            try:
                if client is None or not config.poll or not _poll(config, client, message, ledger):
                    print(f"then enter its score: {_command(config)} --leaderboard SCORE")
            finally:
                _show(config, ledger)
    else:
        scores = {"leaderboard": score_text(config.leaderboard), "private": score_text(config.private)}
        given = scores | {"note": config.note}
        known = {column: value for column, value in given.items() if value}
        ledger.enter(f"{config.name}.csv", **known)
        _show(config, ledger)


def _command(config: SubmitConfig) -> str:
    from src.data.prepared import command

    return command(config, "submit", f" --name {shlex.quote(config.name)}")


def _hand_in(config: SubmitConfig, ledger: "Ledger") -> "tuple[Kaggle | None, str]":
    """Hand in, or say where to; return the client, if there is one, and the message that Kaggle shows."""
    from src.core.errors import InputError
    from src.core.signals import stop
    from src.handin.checked import check_again, expected_score, open_submission
    from src.handin.kaggle import open_kaggle
    from src.metrics import metric_of

    submission = open_submission(config, config.name)
    before = ledger.find(submission.sha256)
    if before is not None and not config.again:
        raise InputError(
            f"{submission.path}: this very file was handed in as {before['file']} on {before['time']}; --again does it "
            "once more"
        )
    note = check_again(config, submission)
    print(note or f"{submission.path}: validated again, {submission.note['num_answers']:,} answers")
    expected = expected_score(config, submission.note)
    slug = config.kaggle or submission.competition.kaggle
    client = open_kaggle(slug) if slug and not config.by_hand else None
    metric = metric_of(submission.competition).name
    message = _message(config, submission, metric, expected)
    print(expected if isinstance(expected, str) else message)
    if not isinstance(expected, str) and expected.optimistic:
        print("note: the epoch was chosen on these very images; the out-of-fold score is optimistic")
    row = _row(config, submission, metric, expected, f"kaggle.com/c/{slug}" if client else "by hand")
    with stop.deferring():  # what was handed in is noted, whatever happens
        if client:
            client.submit(submission.path, message)
        ledger.add(row)
    if client is None:
        where = submission.competition.upload or "the competition's page"
        print(f"upload {submission.path} at {where}")
    return client, message


def _message(config: SubmitConfig, submission: "Submission", metric: str, expected: "Expected | str") -> str:
    """Return what Kaggle shows beside a submission; no two are the same, since its score is found by it."""
    from src.handin.ledger import now

    once_more = f", {now()}" if config.again else ""
    if config.message:
        return f"{config.message} [sha256 {submission.sha256[:12]}{once_more}]"
    score = "" if isinstance(expected, str) else f"out-of-fold {metric} {expected.score:.5g}"
    interval = "" if isinstance(expected, str) else f" ({expected.low:.5g} to {expected.high:.5g}), "
    return (
        f"{submission.path.stem}: {score}{interval}run {submission.run_id}, sha256 {submission.sha256[:12]}{once_more}"
    )


def _row(config: SubmitConfig, submission: "Submission", metric: str, expected: "Expected | str", place: str) -> "Row":
    from src.handin.ledger import Row, now, score_text

    scores = {}
    if not isinstance(expected, str):
        of = {"out_of_fold": expected.score, "low": expected.low, "high": expected.high}
        scores = {column: score_text(value) for column, value in of.items()}
    return Row(
        time=now(), file=submission.path.name, sha256=submission.sha256, run=submission.run_names,
        run_id=submission.run_id, metric=metric, place=place, note=config.note, **scores,
    )  # fmt: skip


def _poll(config: SubmitConfig, client: "Kaggle", message: str, ledger: "Ledger") -> bool:
    """Wait for Kaggle's score and enter it; return whether it came in time."""
    entry = client.poll(message, 60 * config.poll)
    if entry is None:
        print(f"Kaggle has not scored it within {config.poll:g} minutes")
        return False
    scores = {"leaderboard": entry.public} | ({"private": entry.private} if entry.private else {})
    ledger.enter(f"{config.name}.csv", **scores)
    print(f"public score {entry.public}{f', private {entry.private}' if entry.private else ''}")
    return True


def _show(config: SubmitConfig, ledger: "Ledger") -> None:
    """Write the page and print what the scores say."""
    from src.competitions.registry import load_competition
    from src.core.writing import write_text
    from src.handin.ledger_page import ledger_page
    from src.handin.shakeup import sentences
    from src.metrics import metric_of

    competition = load_competition(config.competition)
    metric, table, page = metric_of(competition), ledger.numbers(), ledger.path.with_suffix(".html")
    for line in sentences(table, metric.greater_is_better):
        print(line)
    write_text(page, ledger_page(table, competition.name, metric.name.replace("_", " "), metric.greater_is_better))
    print(f"ledger: {page}")


if __name__ == "__main__":
    cli.run(main, SubmitConfig, __doc__)
