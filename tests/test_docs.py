"""README and docs say what the code does: their links, flags, rooms and files exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.flags_page import COMMANDS, PAGE, flag_names, page
from src.competitions.registry import competition_names
from src.models import REFERENCE_NETS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path for folder in (".", "docs", "benchmarks", "benchmarks/results") for path in ROOT.glob(f"{folder}/*.md")
)
GUIDES = [path for path in PAGES if path.parent.name != "results" and path.name not in ("CHANGELOG.md", "RESULTS.md")]
MAX_README_WORDS = 1200
# Of docker, uv, torchrun and tests/run.sh.
OF_OTHER_PROGRAMS = {"--help", "--slow", "--extra", "--gpus", "--shm-size", "--build-arg", "--user", "--max-restarts"}
OF_EXAMPLES = {"--augment.gamma"}  # which CONTRIBUTING.md adds
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
each_guide = pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix())


def without_blocks(text: str) -> str:
    """Return a page without its fenced code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_of(text: str) -> Iterator[str]:
    """Yield each line of the fenced code blocks, and each code span, on one line."""
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()
    for span in re.findall(r"`([^`]+)`", without_blocks(text)):
        yield " ".join(span.split())


def commands_of(text: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each command of ours that a page shows, with the flags that follow it."""
    for line in code_of(text):
        for part in re.split(r"&&|;| #", line):
            found = re.search(r"(?:python -m src\.|podium )(\w+)(.*)", part)
            if found and found[1] in COMMANDS:
                yield found[1], set(re.findall(r"(?<!\S)--[a-z][\w.-]*", found[2]))


def test_the_readme_is_read_in_four_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < MAX_README_WORDS


@each_page
def test_every_relative_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{path.name}: {target}"


def test_the_flags_page_is_what_config_says_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m pipelines.flags_page"


@each_guide
def test_every_flag_after_a_command_is_one_of_that_command(path: Path) -> None:
    for command, names in commands_of(path.read_text(encoding="utf-8")):
        unknown = names - flag_names(COMMANDS[command]) - OF_OTHER_PROGRAMS - OF_EXAMPLES
        assert not unknown, f"{path.name}: src.{command} has no {', '.join(sorted(unknown))}"


@each_guide
def test_every_flag_on_its_own_is_one_of_some_command(path: Path) -> None:
    known = set().union(*map(flag_names, COMMANDS.values())) | OF_OTHER_PROGRAMS
    for span in code_of(without_blocks(path.read_text(encoding="utf-8"))):
        if span.startswith("--"):
            unknown = set(re.findall(r"(?<!\S)--[a-z][\w.-]*", span)) - known
            assert not unknown, f"{path.name}: no command has {', '.join(sorted(unknown))}"


def texts_of(path: Path) -> Iterator[str]:
    """Yield each text of a source file, with … for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_message_that_the_faq_explains_is_one_of_ours() -> None:
    ours = "\n".join(text for path in (ROOT / "src").rglob("*.py") for text in texts_of(path))
    messages = re.findall(r"\*\*`([^`]+)`\*\*", (ROOT / "docs" / "faq.md").read_text(encoding="utf-8"))
    assert len(messages) > 20
    for message in messages:
        for part in " ".join(message.split()).split("…"):
            assert part.strip() in ours, message


def test_the_guides_show_every_command() -> None:
    shown = {command for path in GUIDES for command, _ in commands_of(path.read_text(encoding="utf-8"))}
    assert shown == set(COMMANDS)


def test_the_readme_names_every_command_and_room() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("## Layout")[1].split("```")[1].split("examples/")[0]
    rooms = [f"{path.parent.name}/" for path in (ROOT / "src").glob("*/__init__.py")]
    files = [path.name for path in (ROOT / "src").glob("*.py") if path.name != "__init__.py"]
    assert len(rooms) >= 8
    for name in rooms + files:
        assert re.search(rf"(?<![\w/]){re.escape(name)}", tree), name


def test_how_it_works_names_every_file_but_those_of_one_competition_or_network() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+\.py)`", text))
    one_each = {f"{name}.py" for name in (*competition_names(), *REFERENCE_NETS)} | {"__init__.py"}
    files = {path.name for path in (ROOT / "src").rglob("*.py")}
    assert files - one_each == {name for name in named if name in files} - one_each
