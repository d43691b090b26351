"""A competition, a competition file or a flag that does not exist is refused with the nearest name."""

from pathlib import Path

import pytest

from tests.fixtures import Podium
from tests.test_bad_input import refused


def test_an_unknown_competition_is_refused_with_the_nearest(podium: Podium) -> None:
    refused(podium("prepare", "--competition", "svnh"), "--competition svnh: no such competition", "did you mean svhn?")
    refused(podium("prepare", "--competition", "mine.py"), "mine.py: no such competition file")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("COMPETITION = 3", ("defines no COMPETITION, such as COMPETITION = csv_competition(...)",)),
        ("x = 1\nCOMPETITION = (", ("line 2", "SyntaxError")),
        ("import nothing_of_the_kind", ("ModuleNotFoundError", "nothing_of_the_kind")),
        ("COMPETITION = csv_competition()", ("NameError", "csv_competition")),
        ("raise ValueError('wrong')", ("ValueError", "wrong")),
        ("COMPETITION = {}['a']", ("KeyError", "a")),
    ],
)
def test_a_competition_file_with_a_mistake_is_refused(
    podium: Podium, tmp_path: Path, code: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "mine.py").write_text(code)
    refused(podium("prepare", "--competition", "mine.py"), "mine.py", *words)


@pytest.mark.parametrize(("command", "flag"), [("prepare", "--num-fold"), ("train", "--epoch"), ("predict", "--tat")])
def test_an_unknown_flag_is_refused_with_the_nearest(podium: Podium, command: str, flag: str) -> None:
    code, _, err = podium(command, flag, 3)
    assert code == 2
    assert "Traceback" not in err
    nearest = {"--num-fold": "--num-folds", "--epoch": "--epochs", "--tat": "--tta"}[flag]
    assert flag in err
    assert nearest in err
