"""Handing in: what is refused, what Kaggle's client is told, what the ledger keeps, what its page says."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src.core.errors import InputError
from src.core.locking import locked
from src.core.records import read_sealed, write_sealed
from src.handin import checked
from src.handin.kaggle import Kaggle, open_kaggle
from src.handin.ledger import Ledger, Row
from src.handin.ledger_page import ledger_page
from src.handin.shakeup import sentences
from tests.browser import check_widths, needs_browser, opened
from tests.handin.fake_kaggle import LISTED, FakeKaggle, kaggle
from tests.world import done, refused, run_command

__all__ = ["kaggle"]


def ledger(world: Path) -> pd.DataFrame:
    return Ledger(world / "submissions" / "svhn" / "ledger.csv").numbers()


def test_a_submission_by_hand_is_noted_and_its_score_entered_later(world: Path) -> None:
    ended = done(world, "submit", "--note", "=first")
    assert "baseline.csv: validated again, 3 answers" in ended.out
    assert "upload submissions/svhn/baseline.csv at https://tianchi.aliyun.com/competition/entrance/531795" in ended.out
    done(world, "submit", "--name", "blend")
    done(world, "submit", "--leaderboard", "0.1234567")
    assert ledger(world)["leaderboard"].tolist()[0] == 0.1234567
    refused(run_command(world, "submit", "--leaderboard", "98.5"), "98.5: string_accuracy is at most 1")
    assert ledger(world)["leaderboard"].tolist()[0] == 0.1234567
    done(world, "submit", "--leaderboard", "0.5")
    done(world, "submit", "--name", "blend", "--leaderboard", "0.7", "--private", "0.6")
    table = ledger(world)
    evaluated = json.loads((world / "runs/svhn/baseline/evaluation/scores.json").read_text())
    assert table["file"].tolist() == ["baseline.csv", "blend.csv"]
    assert table["run"].iloc[0] == "baseline"
    assert table["out_of_fold"].iloc[0] == pytest.approx(evaluated["score"], abs=1e-6)
    assert [table["low"].iloc[0], table["high"].iloc[0]] == pytest.approx(evaluated["interval_95"], abs=1e-6)
    note = json.loads((world / "submissions/svhn/blend.json").read_text())
    assert table["out_of_fold"].iloc[1] == pytest.approx(note["blend"]["cross_validated_score"], abs=1e-6)
    assert table["leaderboard"].tolist() == [0.5, 0.7]
    assert table["private"].iloc[1] == 0.6
    assert table["note"].iloc[0] == "'=first"  # no formula in a spreadsheet
    assert "blend.csv" in (world / "submissions/svhn/ledger.html").read_text()


def test_what_is_not_the_validated_file_or_was_handed_in_is_refused(world: Path) -> None:
    folder = world / "submissions" / "svhn"
    refused(run_command(world, "submit", "--name", "nothing"), "nothing.csv: no such submission", "baseline, blend")
    refused(run_command(world, "submit", "--leaderboard", "0.5"), "baseline.csv was not handed in", "none yet")
    refused(run_command(world, "submit", "--leaderboard", "nan"), "--leaderboard nan")
    done(world, "submit")
    refused(run_command(world, "submit"), "this very file was handed in as baseline.csv", "--again")
    done(world, "submit", "--again")
    text = (folder / "other.csv").read_text()
    (folder / "other.csv").unlink()
    (folder / "other.csv").write_text(text + "\n")
    refused(run_command(world, "submit", "--name", "other"), "other.csv: is not the file that other.json describes")
    note = (folder / "other.json").read_text()
    for text, words in (
        (note.replace('"num_answers": 3', '"num_answers": 4'), "was edited after it was written"),
        (note.replace('"num_answers"', '"number"'), "was edited after it was written"),
        ("[" * 100_000, "is damaged"),
        ("7", "is damaged"),
    ):
        (folder / "other.json").unlink()
        (folder / "other.json").write_text(text)
        refused(run_command(world, "submit", "--name", "other"), f"other.json: {words}", "run predict or blend again")
    (folder / "other.json").unlink()
    refused(run_command(world, "submit", "--name", "other"), "other.json: not there", "validated")
    assert len(ledger(world)) == 2


def test_a_sample_submission_that_has_changed_since_is_noticed(world: Path) -> None:
    sample = world / "input" / "svhn" / "mchar_sample_submit_A.csv"
    lines = sample.read_text().splitlines()
    sample.unlink()
    sample.write_text("\n".join([lines[0], *reversed(lines[1:]), ""]))
    refused(run_command(world, "submit"), "baseline.csv, line 2: id '000000.png' where the sample submission has")
    assert not (world / "submissions" / "svhn" / "ledger.csv").exists()


def test_without_the_runs_it_is_handed_in_without_a_score(world: Path) -> None:
    (world / "runs").rename(world / "elsewhere")
    ended = done(world, "submit")
    assert "validated when it was written, not again now" in ended.out
    assert "the out-of-fold score is not known here" in ended.out
    assert ledger(world)["out_of_fold"].isna().all()


def test_the_submission_itself_says_what_it_should_score(world: Path) -> None:
    done(world, "predict")
    note = json.loads((world / "submissions/svhn/baseline.json").read_text())
    done(world, "evaluate")
    scores = json.loads((world / "runs/svhn/baseline/evaluation/scores.json").read_text())
    expected = {key: scores[key] for key in ("score", "interval_95", "num_images", "optimistic")}
    assert note["promised"] == expected


def edited(world: Path, **changes: object) -> None:
    """Change what the JSON of the submission says."""
    file = world / "submissions/svhn/baseline.json"
    write_sealed(file, read_sealed(file, "") | changes)


def test_a_score_of_other_weights_or_of_images_that_were_not_answered_is_not_noted(world: Path) -> None:
    runs = json.loads((world / "submissions/svhn/baseline.json").read_text())["runs"]
    edited(world, minutes={"images_not_reached": 1})
    assert "some images were not reached in the time" in done(world, "submit").out
    runs[0]["folds"][0]["weights_sha256"] = "0" * 64
    edited(world, minutes={"images_not_reached": 0}, runs=runs)
    assert "folds of baseline have other weights now" in done(world, "submit", "--again").out
    assert ledger(world)["out_of_fold"].isna().all()


def test_a_submission_may_be_called_submit(world: Path) -> None:
    done(world, "predict", "--name", "submit")
    assert "submit.csv: validated again" in done(world, "submit", "--name", "submit").out


def test_no_submission_can_take_the_ledgers_name(world: Path) -> None:
    refused(run_command(world, "predict", "--name", "ledger"), "--name 'ledger': is taken, as are prepared")


def test_each_submission_to_kaggle_has_a_message_of_its_own(world: Path, kaggle: FakeKaggle) -> None:
    kaggle.will(submit={"out": "Submission ref: 7"})
    for flags in ((), ("--name", "other"), ("--again",)):
        done(world, "submit", "--kaggle", "street", "--message", "try", *flags)
    messages = [call[7] for call in kaggle.calls()]
    assert all(message.startswith("try [sha256 ") for message in messages)
    assert len(set(messages)) == 3
    assert int((kaggle.folder / "session").read_text()) != os.getsid(0)  # Ctrl-C does not cancel an upload


def test_kaggle_is_told_score_and_run_and_asked_for_the_public_score(world: Path, kaggle: FakeKaggle) -> None:
    waiting = {"out": f'{LISTED}1,a,b,"MESSAGE",SubmissionStatus.PENDING,,\n'}
    kaggle.will(submit={"out": "Submission ref: 7"}, submissions=waiting)
    ended = done(world, "submit", "--kaggle", "street", "--poll", "0.001")
    assert "has not scored it within 0.001 minutes" in ended.out
    listed = {"out": f'Warning: old client\n{LISTED}7,a,b,"MESSAGE",SubmissionStatus.COMPLETE,0.91,None\n'}
    kaggle.will(submit={"out": "Submission ref: 7"}, submissions=listed)
    ended = done(world, "submit", "--kaggle", "street", "--poll", "1", "--name", "other")
    assert "public score 0.91\n" in ended.out
    table, call = ledger(world), kaggle.calls()[2]
    assert call[:6] == ["competitions", "submit", "-c", "street", "-f", "submissions/svhn/other.csv"]
    score, run = table["out_of_fold"].iloc[1], table["run_id"].iloc[1]
    assert call[6] == "-m"
    assert call[7].startswith(f"other: out-of-fold string_accuracy {score:.5g} (")
    assert f"run {run}" in call[7]
    assert table["leaderboard"].iloc[1] == 0.91
    assert table["private"].isna().all()
    assert table["place"].tolist() == ["kaggle.com/c/street"] * 2


def test_what_kaggle_refuses_is_not_noted(world: Path, kaggle: FakeKaggle) -> None:
    kaggle.will(submit={"err": "403 Client Error: Forbidden", "code": 1})
    refused(run_command(world, "submit", "--kaggle", "street"), "accept the rules")
    kaggle.will(submit={"out": "Warning: old client\nCould not submit to competition\n"})  # and exit code 0
    refused(run_command(world, "submit", "--kaggle", "street"), "kaggle, street: Could not submit to competition")
    assert not (world / "submissions" / "svhn" / "ledger.csv").exists()


def test_the_file_cannot_be_replaced_between_its_check_and_its_upload(
    world: Path, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = []

    def waiting(*_: object) -> str:
        with pytest.raises(InputError, match="wait for it") as caught, locked(Path("submissions/svhn/baseline"), "x"):
            pass
        refusals.append(caught.value)
        return "note: no score"

    monkeypatch.setattr(checked, "expected_score", waiting)
    done(world, "submit", "--kaggle", "street")
    assert len(refusals) == 1


def test_a_failure_while_waiting_for_the_score_is_no_failure_of_the_submission(
    world: Path, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = Kaggle.run, []

    def failing(client: Kaggle, *arguments: str, **more: Any) -> str:
        if arguments[0] == "submissions":
            asked.append(arguments)
            if len(asked) == 1:
                raise InputError("kaggle, street: ConnectionResetError")
        return run(client, *arguments, **more)

    monkeypatch.setattr(Kaggle, "run", failing)
    monkeypatch.setattr("time.sleep", lambda _: None)
    listed = {"out": f'{LISTED}7,a,b,"MESSAGE",SubmissionStatus.COMPLETE,0.91234567,None\n'}
    kaggle.will(submissions=listed)
    ended = done(world, "submit", "--kaggle", "street", "--poll", "1")
    assert "note: kaggle, street: ConnectionResetError" in ended.out
    assert "public score 0.91234567\n" in ended.out
    kaggle.will(submissions={"out": f'{LISTED}7,a,b,"MESSAGE",SubmissionStatus.ERROR,,\n'})
    ended = run_command(world, "submit", "--kaggle", "street", "--poll", "1", "--name", "other")
    refused(ended, "Kaggle could not score the submission")
    assert '<td class="file">other</td>' in (world / "submissions/svhn/ledger.html").read_text()


def test_a_client_that_does_not_answer_is_not_waited_for(kaggle: FakeKaggle) -> None:
    (kaggle.folder / "kaggle").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(InputError, match="kaggle, street: no answer within 0 s"):
        open_kaggle("street").run("submissions", seconds=0.2)


def row(number: int, **more: str) -> Row:
    return Row(
        time=f"2026-01-{number + 1:02d}T10:00:00Z", file=f"run{number}.csv", sha256=f"{number:064x}", run="r",
        run_id="a1b2c3", metric="accuracy", **more,
    )  # fmt: skip


def test_rows_of_several_processes_are_all_kept_and_a_users_own_column_too(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.csv")
    book.add(row(0))
    text = book.path.read_text().splitlines()
    book.path.write_text(f"{text[0]},mood\n{text[1]},good\n")
    threads = [threading.Thread(target=book.add, args=(row(number),)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = book.read()
    assert sorted(table["file"]) == [f"run{number}.csv" for number in range(9)]
    assert table["mood"].tolist() == ["good", *[""] * 8]
    book.path.write_text(book.path.read_text().replace("a1b2c3,accuracy,,", "a1b2c3,accuracy,high,", 1))
    with pytest.raises(InputError, match="ledger.csv, line 2: out_of_fold is 'high', not a number"):
        book.read()


def test_a_score_is_entered_for_a_name_that_a_spreadsheet_would_compute(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.csv")
    book.add(Row(**{**vars(row(0)), "file": "@v2.csv"}))
    book.enter("@v2.csv", leaderboard="0.9")
    assert book.read()["leaderboard"].tolist() == ["0.9"]


SCORES = ((0.90, 0.92, 0.88), (0.92, 0.90, 0.93), (0.91, 0.93, 0.90), (0.89, 0.88, 0.89))


def test_numbers_of_a_hand_edited_ledger_are_read_as_they_are_checked(tmp_path: Path) -> None:
    kept = Ledger(tmp_path / "ledger.csv")
    kept.add(row(0, leaderboard="\uff10.\uff19\uff11"))  # digits of a Chinese input method
    assert kept.numbers()["leaderboard"].tolist() == [0.91]


def scored(tmp_path: Path) -> pd.DataFrame:
    """Return a ledger of four submissions with out-of-fold, leaderboard and private scores."""
    book = Ledger(tmp_path / "ledger.csv")
    for number, (out_of_fold, public, hidden) in enumerate(SCORES):
        limits = {"low": str(out_of_fold - 0.015), "high": str(out_of_fold + 0.015)}
        scores = {"out_of_fold": str(out_of_fold), "leaderboard": str(public), "private": str(hidden)}
        book.add(row(number, **limits, **scores, note="a note of some length, <b>not bold</b>" * (number == 1)))
    return book.numbers()


def test_the_shake_up_is_told(tmp_path: Path) -> None:
    told = "\n".join(sentences(scored(tmp_path), greater_is_better=True))
    assert "rank correlation of 0.40 (Spearman, 4 submissions" in told
    assert (
        "Out-of-fold would have chosen run1.csv (0.9), which is 3rd of 4 on the leaderboard; the best there is run2"
        in told
    )
    assert "The leaderboard is on average 0.0025 above out-of-fold." in told
    assert "1 of 4 leaderboard scores lie within the 95% interval" in told
    assert "rank correlation 0.00, shake-up 0.38" in told
    assert "The public leaderboard would have chosen run2.csv (0.9), which is 2nd of 4 on the private one" in told
    assert "Out-of-fold would have chosen run1.csv, and it is the best of 4 on the private leaderboard." in told
    less = "\n".join(sentences(scored(tmp_path), greater_is_better=False))
    assert "Out-of-fold would have chosen run3.csv, and it is the best of 8 on the leaderboard." in less


@needs_browser
def test_the_page_draws_both_charts_and_fits(tmp_path: Path) -> None:
    page = ledger_page(scored(tmp_path), "leaves", "accuracy", True)
    (tmp_path / "ledger.html").write_text(page, encoding="utf-8")
    with opened(tmp_path / "ledger.html", dark=True) as shown:
        assert shown.evaluate("drawnCharts.size") == 2
        assert shown.locator("tbody tr").count() == 4
        assert "<b>not bold</b>" in shown.locator("td.note").nth(2).inner_text()
        datasets = shown.evaluate("[...drawnCharts.values()][0].data.datasets.map((one) => one.data.length)")
        assert datasets == [4, 4, 12, 12, 2]  # points of both leaderboards, their intervals, the diagonal
        check_widths(shown)


def test_an_empty_ledger_says_what_to_do() -> None:
    assert "--leaderboard SCORE" in ledger_page(Ledger(Path("nowhere.csv")).numbers(), "leaves", "accuracy", True)
