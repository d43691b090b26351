"""Imports go one way: a room imports only from rooms below it, and nothing imports a command."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "src").rglob("*.py"))
# From bottom to top: a room imports only from itself and from rooms before it.
ROOMS = [
    "core", "pages", "config", "competitions", "models", "data", "metrics", "runs", "watching", "inference", "training",
    "report", "checkup", "sweeping", "searching", "planning", "handin", "exporting", "serving", "commands",
]  # fmt: skip
COMMANDS = {
    "prepare", "train", "evaluate", "predict", "blend", "make_demo", "summary", "bench", "doctor", "sweep", "compare",
    "watch", "crops", "search", "auto", "download", "submit", "export", "serve",
}  # fmt: skip
MAX_LINES = 300


def room_of(module: str) -> str:
    """Return the room of a dotted name such as src.data.cache."""
    part = module.split(".")[1]
    return "commands" if part in COMMANDS else part


def name_of(path: Path) -> str:
    """Return the dotted name of a file, that of the package for an __init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Return the modules of src that a file imports, anywhere in it."""
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


def test_every_file_belongs_to_a_room() -> None:
    assert len(FILES) > 25
    assert {room_of(name_of(path)) for path in FILES if name_of(path) != "src"} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_imports_from_a_room_above_its_own_or_a_command(path: Path) -> None:
    if name_of(path) == "src":
        assert not imports_of(path)
        return
    own = ROOMS.index(room_of(name_of(path)))
    for module in imports_of(path):
        assert room_of(module) != "commands", f"{path} imports the command {module}"
        assert ROOMS.index(room_of(module)) <= own, f"{path} imports {module}, from a room above"


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("core", ("src.core",)),
        ("config", ("src.config", "src.core.errors")),
        ("competitions", ("src.competitions", "src.config", "src.core")),
        ("models", ("src.models", "src.competitions.spec", "src.competitions.layout", "src.core")),
    ],
)
def test_the_lower_rooms_import_only_what_is_allowed(room: str, allowed: tuple[str, ...]) -> None:
    for path in FILES:
        if name_of(path) != "src" and room_of(name_of(path)) == room:
            forbidden = [module for module in imports_of(path) if not module.startswith(allowed)]
            assert not forbidden, f"{path} imports {', '.join(forbidden)}"


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "pipelines", "examples"])
def test_no_file_exceeds_the_line_limit(folder: str) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lengths
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_prepare_imports_no_network_library() -> None:
    """torch and timm take five seconds and 400 MiB, and prepare runs where many images are decoded at once."""
    modules = sorted(imports_of(ROOT / "src" / "prepare.py"))
    assert "src.metrics" in modules
    code = f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'timm', 'sklearn'}} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_sklearn_is_imported_where_it_is_needed() -> None:
    """It takes a fifth of the time of all that train imports, and few trainings need it."""
    at_the_top = re.compile(r"^(from|import) sklearn", re.MULTILINE)
    files = [path for path in (ROOT / "src").rglob("*.py") if at_the_top.search(path.read_text(encoding="utf-8"))]
    assert files == [ROOT / "src/competitions/demo_images.py"]  # which only make_demo imports
