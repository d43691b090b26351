"""Sealed records: edited ones are refused, and a setting that later code adds does not break them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from src.core.errors import InputError
from src.core.records import read_record, read_sealed, seal_of, write_record, write_sealed


@dataclass(frozen=True, kw_only=True)
class Inner:
    rotate: float = 10.0


@dataclass(frozen=True, kw_only=True)
class InnerLater(Inner):
    shear: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Before:
    name: str
    epochs: int = 24
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class After:
    name: str
    epochs: int = 24
    inner: InnerLater = field(default_factory=InnerLater)
    suspects: str | None = None


def test_a_record_is_read_by_later_code_that_knows_one_setting_more(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    for record in (Before(name="a"), Before(name="a", epochs=30, inner=Inner(rotate=5))):
        write_record(file, record)
        later = read_record(file, After, "", "")
        assert (later.name, later.epochs, later.inner.rotate) == (record.name, record.epochs, record.inner.rotate)
        assert seal_of(later) == seal_of(record)


@pytest.mark.parametrize(("then", "now"), [('"epochs": 30', '"epochs": 24'), ('"epochs": 30', '"epochs": 31'),
                                           ('"rotate": 10.0', '"rotate": 9.0'), ('"a"', '"b"')])  # fmt: skip
def test_a_value_edited_by_hand_is_told_also_to_its_default(tmp_path: Path, then: str, now: str) -> None:
    file = tmp_path / "run.json"
    write_record(file, Before(name="a", epochs=30))
    file.write_text(file.read_text().replace(then, now))
    assert json.loads(file.read_text())
    with pytest.raises(InputError, match="was edited after it was written"):
        read_record(file, Before, "", "")


def test_plain_values_are_sealed_as_they_will_be_read(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    write_sealed(file, {"b": {2: 0.1, 10: None}, "a": ("ä", 1e-9)})
    assert read_sealed(file, "do it again") == {"b": {"2": 0.1, "10": None}, "a": ["ä", 1e-9]}
    file.write_text(file.read_text().replace("null", "0"))
    with pytest.raises(InputError, match=r"was edited after it was written .*; do it again"):
        read_sealed(file, "do it again")
