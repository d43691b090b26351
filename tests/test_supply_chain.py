"""Packages are pinned by hash, loading a file never runs code, the image does not run as root."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from src.core.cli import REQUIRED

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for folder in ("src", "benchmarks", "pipelines") for path in (ROOT / folder).rglob("*.py"))


def requirement_lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]


def pins(name: str) -> dict[str, str]:
    """Return the version of each package in a requirements file."""
    lines = [line.split(" ")[0] for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
    return {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line.split("==")[1] for line in lines}


def test_every_requirement_is_locked_at_the_same_version_with_a_hash() -> None:
    locked = pins("requirements.lock")
    assert pins("requirements.txt").items() <= locked.items()  # else: python3.11 pipelines/lock.py
    assert len(locked) > 40
    for line in (ROOT / "requirements.lock").read_text().splitlines()[1:]:
        assert re.fullmatch(r"[\w.-]+==[\w.+-]+ --hash=sha256:[0-9a-f]{64}", line), line


def test_the_image_installs_the_locked_packages_and_does_not_run_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "ARG REQUIREMENTS=requirements.lock" in text
    users = re.findall(r"^USER (\d+):\d+$", text, flags=re.MULTILINE)
    assert int(users[-1]) > 0


def test_pip_and_uv_install_from_the_same_pins() -> None:
    """pyproject.toml, which uv reads, has no versions of its own: it takes both requirements files as they are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "dependencies" not in project["project"]
    assert set(project["project"]["dynamic"]) == {"dependencies", "optional-dependencies"}
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"] == {"file": ["requirements.txt"]}
    assert dynamic["optional-dependencies"] == {"dev": {"file": ["requirements-dev.txt"]}}
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in requirement_lines(name)), name


def test_every_package_that_commands_check_for_is_pinned() -> None:
    modules = {"cv2": "opencv-python-headless", "PIL": "pillow", "sklearn": "scikit-learn"}
    assert {modules.get(name, name) for name in REQUIRED} <= set(pins("requirements.txt"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled(path: Path) -> None:
    loaders = ("load", "loads", "Unpickler", "read_pickle")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        location = f"{path.name}:{node.lineno}" if hasattr(node, "lineno") else path.name
        if isinstance(node, ast.ImportFrom):
            assert not {alias.name for alias in node.names} & {*loaders, "_load"}, f"{location}: hides what is called"
            assert node.module not in ("pickle", "joblib", "dill", "shelve", "marshal"), location
        if isinstance(node, ast.ClassDef) and node.name != "_PlainOnly":  # CIFAR's reader, tested separately
            assert not any("Unpickler" in ast.unparse(base) for base in node.bases), location
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        flags = {flag.arg: ast.unparse(flag.value) for flag in node.keywords}
        if called == "torch.load":
            assert flags.get("weights_only") == "True", location
        elif called == "np.load":
            assert flags.get("allow_pickle", "False") == "False", location
        else:
            module = called.rpartition(".")[0]
            assert not (module in ("pickle", "pd", "joblib") and called.split(".")[-1] in loaders), location
