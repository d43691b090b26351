"""--help is quick, since a command imports nothing but its flags before it has read them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_imports import COMMANDS, ROOT

SLOW = (
    "torch",
    "torchvision",
    "timm",
    "cv2",
    "numpy",
    "pandas",
    "sklearn",
    "scipy",
    "albumentations",
    "pydantic",
    "tqdm",
)
SCRIPT = """
import runpy, sys
sys.argv = ["{name}", "--help"]
try:
    runpy.run_module("src.{name}", run_name="__main__")
except SystemExit as end:
    assert not end.code
print("imported:", *(name for name in {slow} if name in sys.modules))
"""


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_imports_none_of_the_slow_packages(name: str) -> None:
    script = SCRIPT.format(name=name, slow=SLOW)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_reads_the_command_line_when_imported(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.argv":
            assert id(node) in inside, f"{path}, line {node.lineno}"
