"""--restart: the old folds stay in use until the new ones are finished, whatever happens in between."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from src.training import restart
from tests.helpers import run_at
from tests.world import FLAGS, PREPARE, done, run_command


def run_folder(world: Path) -> Path:
    return world / "runs" / "svhn" / "baseline"


def weights(world: Path) -> list[str]:
    return [fold.result.weights_sha256 for fold in run_at(run_folder(world)).trained()]


class KilledError(BaseException):
    """Stands for a SIGKILL."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes the n-th file operation of the move raise; 0 takes that back."""
    names = ("write_text", "write_record", "replace_folder")
    real = {name: getattr(restart, name) for name in names} | {"rmtree": shutil.rmtree}

    def arm(number: int) -> None:
        left = [number]

        def counted(name: str) -> Callable[..., None]:
            def call(*given: object, **options: object) -> None:
                left[0] -= 1
                if left[0] == 0:
                    raise KilledError
                real[name](*given, **options)

            return call

        for name in names:
            monkeypatch.setattr(restart, name, counted(name) if number else real[name])
        monkeypatch.setattr(restart.shutil, "rmtree", counted("rmtree") if number else real["rmtree"])

    return arm


def test_the_old_folds_answer_until_the_new_ones_are_finished(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, answers = weights(world), (world / "submissions/svhn/baseline.csv").read_bytes()

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("src.train.publish", killed, raising=False)
        patch.setattr("src.training.restart.publish", killed)
        with pytest.raises(KilledError):
            run_command(world, "train", *FLAGS, "--seed", 4, "--restart")
    assert weights(world) == old
    done(world, "predict")
    assert (world / "submissions/svhn/baseline.csv").read_bytes() == answers
    ended = done(world, "train", *FLAGS, "--seed", 4, "--restart")
    assert "resuming the --restart that was interrupted" in ended.out
    assert ended.out.count("already trained") == 2
    new = weights(world)
    assert not set(new) & set(old)
    assert not (run_folder(world) / "restart").exists()


@pytest.mark.parametrize("number", [1, *range(4, 13)])
def test_a_kill_during_the_move_is_made_good(world: Path, kill_at: Callable[[int], None], number: int) -> None:
    """The move of a restart with another seed is the fourth to the twelfth file operation."""
    old = weights(world)
    kill_at(number)
    with pytest.raises(KilledError):
        run_command(world, "train", *FLAGS, "--seed", 4, "--restart")
    kill_at(0)
    ended = run_command(world, "predict")
    assert ended.code in (0, 2), ended.err
    assert "Traceback" not in ended.err
    done(world, "train", *FLAGS, "--seed", 4, "--restart")
    new = weights(world)
    assert len(new) == 2
    assert not set(new) & set(old)
    assert not (run_folder(world) / "restart").exists()
    done(world, "predict")


@pytest.mark.parametrize(("wanted", "moved"), [(0, True), (1, False)])
def test_a_restart_after_a_kill_during_the_move_trains_what_it_is_asked_for(
    world: Path, kill_at: Callable[[int], None], wanted: int, moved: bool
) -> None:
    kill_at(4)  # the move itself, after the mark that says so
    with pytest.raises(KilledError):
        run_command(world, "train", *FLAGS, "--fold", 0, "--restart")
    kill_at(0)
    ended = done(world, "train", *FLAGS, "--fold", wanted, "--restart")
    assert (f"fold {wanted}: already trained" in ended.out) == moved
    assert not (run_folder(world) / "restart").exists()


def test_what_was_made_of_the_old_folds_goes_with_them(world: Path) -> None:
    made = [run_folder(world) / name for name in ("evaluation/scores.json", "export/model.onnx", "crops.csv")]
    for file in made:
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)  # a link to a file that other tests read
        file.write_text("of the old folds")
    done(world, "train", *FLAGS, "--fold", 0, "--restart")
    assert not any(file.exists() for file in made)


def test_restarting_one_fold_with_other_flags_is_refused(world: Path) -> None:
    old = weights(world)
    ended = run_command(world, "train", *FLAGS, "--fold", 0, "--seed", 4, "--restart")
    assert ended.code == 2
    assert "would leave fold 1 as it is" in ended.err
    assert "(seed: 0 then, 4 now)" in ended.err
    assert weights(world) == old


def test_restarting_one_fold_with_the_same_flags_gives_the_same_weights(world: Path) -> None:
    old = weights(world)
    ended = done(world, "train", *FLAGS, "--fold", 0, "--restart")
    assert "already trained" not in ended.out
    assert weights(world) == old


def test_a_restart_of_all_folds_reads_the_newest_snapshot(world: Path) -> None:
    old = run_at(run_folder(world)).prepared.id
    done(world, "prepare", *PREPARE[:2], "--num-folds", 3, "--num-processes", 1)
    done(world, "train", *FLAGS, "--restart")
    assert run_at(run_folder(world)).prepared.id != old
    assert len(weights(world)) == 3
    done(world, "prepare", *PREPARE)
    done(world, "train", *FLAGS, "--restart")
    assert run_at(run_folder(world)).prepared.id == old
    assert len(weights(world)) == 2


def test_an_unfinished_restart_with_other_flags_is_dropped(world: Path) -> None:
    staged = run_folder(world) / "restart"
    shutil.copytree(run_folder(world), staged, ignore=shutil.ignore_patterns("restart", "oof.npz"))
    done(world, "train", *FLAGS, "--seed", 4, "--restart")
    assert run_at(run_folder(world)).started_record.train.seed == 4
    assert not staged.exists()
