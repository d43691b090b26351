"""The text recogniser's dynamic programming gives what counting all paths gives, and its gradient is finite."""

import itertools

import torch

from examples.networks.text_recognition import string_probabilities

POSITIONS, COLUMNS, CHARACTERS = 3, 5, 2


def by_counting(columns: torch.Tensor) -> torch.Tensor:
    """Return (P, C + 1): sum over all paths what each reads; columns (T, 1 + C)."""
    read = torch.zeros(POSITIONS, CHARACTERS + 1)
    for path in itertools.product(range(CHARACTERS + 1), repeat=COLUMNS):
        share = torch.stack([columns[number, symbol] for number, symbol in enumerate(path)]).prod()
        text = [symbol for symbol, _ in itertools.groupby(path) if symbol]
        for position in range(POSITIONS):
            read[position, text[position] - 1 if position < len(text) else CHARACTERS] += share
    return read


def test_strings_have_the_probabilities_that_counting_all_paths_gives() -> None:
    columns = torch.randn(4, COLUMNS, CHARACTERS + 1, generator=torch.Generator().manual_seed(0)).softmax(2)
    found = string_probabilities(columns, POSITIONS)
    for one, expected in zip(found, columns, strict=True):
        torch.testing.assert_close(one, by_counting(expected), atol=1e-6, rtol=0)


def test_certain_columns_read_their_text_and_have_a_finite_gradient() -> None:
    text = torch.tensor([[1, 1, 0, 1, 2]])  # "a", then after a blank "a" again, then "b"
    logits = (30.0 * torch.nn.functional.one_hot(text, CHARACTERS + 1)).requires_grad_()
    found = string_probabilities(logits.softmax(2), POSITIONS)
    assert found.argmax(2).tolist() == [[0, 0, 1]]
    found.clamp(min=1e-6).log().sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
