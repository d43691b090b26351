"""A program called `kaggle` on PATH that stands for Kaggle's client: it records its arguments and answers as told."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """#!{python}
import json, os, pathlib, sys
home = pathlib.Path({home!r})
(home / "session").write_text(str(os.getsid(0)))
with open(home / "calls.jsonl", "a") as stream:
    stream.write(json.dumps(sys.argv[1:]) + "\\n")
answer = json.loads((home / "answers.json").read_text()).get(sys.argv[2], {{}})
for name, source in answer.get("files", {{}}).items():
    target = pathlib.Path(sys.argv[sys.argv.index("-p") + 1]) / name
    target.write_bytes(pathlib.Path(source).read_bytes())
message = home / "message"
sys.stdout.write(answer.get("out", "").replace("MESSAGE", message.read_text() if message.exists() else ""))
sys.stderr.write(answer.get("err", ""))
if sys.argv[2] == "submit" and not answer.get("code"):
    message.write_text(sys.argv[sys.argv.index("-m") + 1])
sys.exit(answer.get("code", 0))
"""
LISTED = "ref,fileName,date,description,status,publicScore,privateScore\n"


class FakeKaggle:
    """`answers` by subcommand: out, err, code, and files that it leaves in the folder given by -p."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.folder = folder
        self.will()
        program = folder / "kaggle"
        program.write_text(SCRIPT.format(python=sys.executable, home=str(folder)))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def will(self, **answers: dict[str, Any]) -> None:
        (self.folder / "answers.json").write_text(json.dumps(answers))

    def calls(self) -> list[list[str]]:
        """Return the arguments of every call."""
        file = self.folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKaggle:
    return FakeKaggle(tmp_path / "fake kaggle", monkeypatch)
