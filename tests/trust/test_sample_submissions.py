"""Real-world sample submissions are answered completely and in order, or raise an error with file and line."""

from collections.abc import Callable
from pathlib import Path

from tests.conftest import TRAIN
from tests.fixtures import MakeSvhn, Podium

HEADER = "file_name,file_code"
IDS = ["000000.png", "000001.png", "000002.png"]


def sample(ids: list[str], header: str = HEADER, end: str = "\n") -> bytes:
    return end.join([header, *(f"{name},0" for name in ids), ""]).encode()


# File content, and the expected ids of the submission or words of the error message.
CASES: dict[str, tuple[bytes, list[str] | tuple[str, ...]]] = {
    "as it should be": (sample(IDS), IDS),
    "an id missing": (sample(IDS[:2]), IDS[:2]),
    "an id without an image": (sample([*IDS, "000009.png"]), [*IDS, "000009.png"]),
    "an id twice": (sample([*IDS, IDS[0]]), ("line 5", "'000000.png' appears twice")),
    "in another order": (sample(IDS[::-1]), IDS[::-1]),
    "another header": (sample(IDS, "name,code"), ("line 1", f"name,code, expected {HEADER}")),
    "columns swapped": (sample(IDS, "file_code,file_name"), ("line 1", f"expected {HEADER}")),
    "a byte-order mark": (b"\xef\xbb\xbf" + sample(IDS), IDS),
    "CRLF": (sample(IDS, end="\r\n"), IDS),
    "no end of the last line": (sample(IDS)[:-1], IDS),
    "no header": (sample(IDS).split(b"\n", 1)[1], ("line 1", f"expected {HEADER}")),
    "a cell too many": (sample(IDS) + b"000003.png,0,0\n", ("line 5", "3 cells")),
}


def test_sample_submissions_are_answered_or_an_error(
    svhn: MakeSvhn, podium: Podium, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    file = svhn(num_train=12, num_val=6, num_test=3) / "mchar_sample_submit_A.csv"
    prepare = ("prepare", "--num-folds", 2, "--num-processes", 1, "--max-unreadable", 0.5)
    assert podium(*prepare)[0] == 0
    assert podium("train", *TRAIN)[0] == 0
    answered = 0
    for name, (content, expected) in CASES.items():
        file.write_bytes(content)
        code, _, err = podium(*prepare)
        if isinstance(expected, tuple):
            assert code == 2, name
            assert err.count("\n") == 1, err
            assert all(word in err for word in (file.name, *expected)), err
            continue
        assert code == 0, err
        assert podium("predict", "--name", "answers")[0] == 0
        lines = (tmp_path / "submissions/svhn/answers.csv").read_bytes().decode().split("\n")
        assert lines[0] == HEADER, name
        assert [line.split(",")[0] for line in lines[1:-1]] == expected, name
        answered += 1
    figure(
        f"sample submissions: {answered} answered completely and in order, {len(CASES) - answered} refused with a line"
    )
