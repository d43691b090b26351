"""The notebook: no outputs are kept, and every cell runs in a clean folder with the repository as a dataset."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
ATTACH = """
shutil.rmtree(WORK / "runs" / "demo" / "cache")
shutil.move(WORK / "runs" / "demo", PLACES[0] / "my-runs")
"""
ANSWER = """
podium(f"predict --competition {COMPETITION} --minutes 5 --name hidden")
"""


def test_no_outputs_are_kept() -> None:
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.slow
def test_every_cell_runs_offline_in_a_clean_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    repository = tmp_path / "attached" / "datasets" / "podium"
    shutil.copytree(ROOT / "src", repository / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", repository)
    for path in [repository, *repository.rglob("*")]:  # attached datasets are read-only
        path.chmod(path.stat().st_mode & ~0o222)
    clean = tmp_path / "clean"
    clean.mkdir()
    monkeypatch.setenv("PODIUM_ATTACHED", str(tmp_path / "attached"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no network
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "2"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    told = book.cells[-1].source.split("```python\n")[1].split("```")[0]  # how to do it in a code competition
    book.cells += [nbformat.v4.new_code_cell(source) for source in (ATTACH, told, ANSWER)]
    nbclient.NotebookClient(book, timeout=1200, resources={"metadata": {"path": str(clean)}}).execute()
    rows = (clean / "submission.csv").read_text().splitlines()
    assert len(rows) == 401
    assert (clean / "submissions" / "demo" / "hidden.csv").read_text().splitlines() == rows
    said = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", []))
    assert "out-of-fold string accuracy" in said
    assert "are enough for all 2 folds" in said
