"""The time left counts steps, scoring, views and the folds that follow."""

import pytest

from src.training.time_left import TimeLeft


def row(epoch: int, steps: float, scoring: float) -> dict[str, float]:
    return {"epoch": epoch, "train_seconds": steps, "seconds": steps + scoring}


def test_what_follows_an_epoch_is_counted() -> None:
    left = TimeLeft(epochs=5, folds_after=2, num_views=3)
    history = [row(1, 100, 10), row(2, 100, 10)]
    fold = 5 * 110 + 3 * 10
    assert left.after_epoch(history, 1) == pytest.approx(3 * 110 + 30 + 2 * fold)
    assert left.after_steps(history, 2, 100) == pytest.approx(10 + 2 * 110 + 30 + 2 * fold)
    assert TimeLeft(epochs=2).after_epoch([row(1, 9, 0), row(2, 9, 0)], 1) == 0


def test_before_the_first_scoring_it_is_estimated_from_the_steps() -> None:
    left = TimeLeft(epochs=2, num_views=1, val_share=0.5)
    assert left.after_steps([], 0, 0) == 0
    assert left.after_steps([], 0, 60) == pytest.approx(10 + 60 + 10 + 10)  # a forward pass is a third of a step


def test_growing_images_take_longer_later() -> None:
    left = TimeLeft(epochs=3, sizes=((16, 32), (32, 32), (32, 64)))
    assert left.after_epoch([row(1, 10, 0)], 0) == pytest.approx(20 + 40)
    assert left.after_steps([], 0, 10) == pytest.approx(20 + 40)


def test_an_epoch_in_which_the_machine_was_busy_does_not_count() -> None:
    left = TimeLeft(epochs=4)
    history = [row(1, 100, 10), row(2, 9000, 900), row(3, 100, 10)]
    assert left.after_epoch(history, 2) == pytest.approx(100 + 10 + 10)
    assert left.after_steps(history, 3, 100) == pytest.approx(10 + 10)
    assert left.after_steps(history[1:2], 2, 100) < 9000
