"""Imports go one way: a stage knows the stages before it, and nothing knows a command."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "src").rglob("*.py"))
# In the order in which data passes; inputs and outputs are one stage, and so are the commands.
STAGES = ["inputs", "competitions", "data", "config", "models", "engine", "report", "cli", "commands"]
COMMANDS = {"prepare", "train", "evaluate", "predict", "blend", "make_demo", "summary", "bench", "doctor"}
MAX_LINES = 300


def stage_of(module: str) -> str:
    """Return the stage of a dotted name such as src.data.cache."""
    part = module.split(".")[1]
    return "commands" if part in COMMANDS else "inputs" if part in ("outputs", "stopping") else part


def name_of(path: Path) -> str:
    """Return the dotted name of a file, that of the package for an __init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def ours(path: Path) -> set[str]:
    """Return the modules of ours that a file imports, wherever in the file it does so."""
    modules = {name_of(other) for other in FILES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            # "from src.data import cache" imports src.data.cache, "from src.data.cache import x" src.data.cache.
            found |= {name if name in modules else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {module for module in found if module == "src" or module.startswith("src.")} - {"src"}


def test_every_file_belongs_to_a_stage() -> None:
    assert len(FILES) > 25
    assert {stage_of(name_of(path)) for path in FILES if name_of(path) != "src"} == set(STAGES)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_imports_a_stage_after_its_own_or_a_command(path: Path) -> None:
    if name_of(path) == "src":
        assert not ours(path)
        return
    own = STAGES.index(stage_of(name_of(path)))
    for module in ours(path):
        assert stage_of(module) != "commands", f"{path} imports the command {module}"
        assert STAGES.index(stage_of(module)) <= own, f"{path} imports {module}, of a later stage"


@pytest.mark.parametrize(
    ("stage", "allowed"),
    [
        ("inputs", ("src.inputs",)),  # outputs raise an InputError too
        ("competitions", ("src.competitions", "src.inputs")),
        ("models", ("src.models", "src.inputs", "src.outputs")),
    ],
)
def test_competitions_and_models_know_next_to_nothing_of_the_rest(stage: str, allowed: tuple[str, ...]) -> None:
    for path in FILES:
        if name_of(path) != "src" and stage_of(name_of(path)) == stage:
            strange = [module for module in ours(path) if not module.startswith(allowed)]
            assert not strange, f"{path} imports {', '.join(strange)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_longer_than_a_reader_bears(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
