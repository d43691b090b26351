"""Build the documentation site from README.md, docs/ and benchmarks/, into site/.

    bash pipelines/site.sh                      installs requirements-docs.txt and builds
    python -m pipelines.site --output site

Writes a folder that works from a web server and from the disk, and loads nothing from the network. The build fails, and
leaves the old site, if a link or an anchor leads nowhere, a page is missing in mkdocs.yml, Markdown was not understood,
or docs/flags.md is stale. Links to source files lead to pages that show them.
"""

import argparse
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from pipelines import flags_page
from src.core.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "benchmarks/*.md", "benchmarks/*/*.md")
AS_THEY_ARE = {".png", ".webp", ".svg", ".css", ".js", ".csv", ".json", ".ipynb"}
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml"}
CODE_OR_LINK = re.compile(
    r"^ *(?P<fence>`{3,})[^\n`]*\n.*?^ *(?P=fence)`*$"  # a block of code
    r"|`[^`]+`"
    r"|(?<=\]\()(?P<target>[^)\s#]+)(?=(?:#[^)\s]*)?\))",
    re.DOTALL | re.MULTILINE,
)

NOT_TEXT = re.compile(r"<(pre|code|script|style|head)\b.*?</\1>", re.DOTALL)
LEFT_OVER = re.compile(r"```|\]\(|\]\[|\|--|\*\*|\\")


def build(root: Path, output: Path) -> None:
    """Build the site of the pages below `root`. Raises InputError if one of them has a mistake."""
    if output.exists() and not (output / "search" / "search_index.js").exists():
        raise InputError(f"{output} exists and is not a built site; choose another --output")
    if flags_page.PAGE.read_text(encoding="utf-8") != flags_page.page():
        raise InputError("docs/flags.md is not what src/config/ says; run 'python -m pipelines.flags_page'")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".site-") as folder:
        pages, site = Path(folder) / "pages", Path(folder) / "site"
        collect(root, pages)
        _run_mkdocs(root / "mkdocs.yml", pages, site)
        _check_rendered(site)
        shutil.rmtree(output, ignore_errors=True)
        os.replace(site, output)


def _run_mkdocs(config: Path, pages: Path, site: Path) -> None:
    """Build strictly: each warning of MkDocs is printed, and any is an error."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # a notice of the theme's about MkDocs 2
    logger, printer = logging.getLogger("mkdocs"), logging.StreamHandler()
    printer.setLevel(logging.WARNING)
    try:
        from mkdocs.commands.build import build as mkdocs_build
        from mkdocs.config import load_config
        from mkdocs.exceptions import MkDocsException
    except ImportError as error:
        raise InputError(f"{error}; run '{sys.executable} -m pip install -r requirements-docs.txt'") from error
    logger.addHandler(printer)
    try:
        mkdocs_build(load_config(str(config), docs_dir=str(pages), site_dir=str(site), strict=True))
    except MkDocsException as error:
        raise InputError(f"the site was not built: {error}") from error
    finally:
        logger.removeHandler(printer)


def _check_rendered(site: Path) -> None:
    """Raise InputError if a page shows Markdown as text: Python-Markdown did not understand what GitHub does."""
    for path in sorted(site.rglob("*.html")):
        text = NOT_TEXT.sub("", path.read_text(encoding="utf-8"))
        if left := LEFT_OVER.search(text):
            around = " ".join(text[max(0, left.start() - 60) : left.end() + 60].split())
            raise InputError(f"{path.relative_to(site)}: Markdown that was not understood: … {around} …")


def collect(root: Path, tree: Path) -> None:
    """Copy all pages and what they link to into `tree`, where they lie as below `root`.

    A linked source file becomes a page that shows it, a linked folder a page that lists its files.
    """
    todo = [path for pattern in PAGES for path in sorted(root.glob(pattern))]
    todo += sorted((root / "docs" / "assets").iterdir())
    done: set[Path] = set()
    while todo:
        path = todo.pop()
        path = path / "README.md" if (path / "README.md").exists() else path
        if path in done:
            continue
        done.add(path)
        target = tree / _page_of(path, root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in AS_THEY_ARE:
            shutil.copyfile(path, target)
            continue
        text = path.read_text(encoding="utf-8") if path.suffix == ".md" else _shown(path, root)
        text, linked = relink(_indented(text), path if path.is_file() else path / "index", root)
        target.write_text(text, encoding="utf-8")
        todo += linked


def _page_of(path: Path, root: Path) -> Path:
    """Return where a file or folder lies in the site's tree."""
    inside = path.relative_to(root)
    if (path / "README.md").exists():
        return inside / "README.md"
    if path.is_dir():
        return inside / f"files-of-{path.name}.md"
    return inside if path.suffix in AS_THEY_ARE | {".md"} else inside.with_name(f"{path.name}.md")


def _shown(path: Path, root: Path) -> str:
    """Return a page that shows a source file, or lists a folder."""
    title = f"---\nsearch:\n  exclude: true\n---\n\n# {path.relative_to(root)}\n\n"
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix in {*LANGUAGES, ".md"})
        return title + "".join(f"- [{name}]({name})\n" for name in files if name != "__init__.py")
    text = path.read_text(encoding="utf-8").rstrip()
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f'{title}{fence} {LANGUAGES.get(path.suffix, "text")} linenums="1"\n{text}\n{fence}\n'


def _indented(text: str) -> str:
    """Return a page with what belongs to a numbered item indented by four spaces; GitHub is content with three."""
    lines, in_item = [], False
    for line in text.split("\n"):
        in_item = bool(re.match(r"\d+\. ", line)) or (in_item and line[:3].strip() == "")
        lines.append(f" {line}" if in_item and line.startswith("   ") else line)
    return "\n".join(lines)


def relink(text: str, page: Path, root: Path) -> tuple[str, list[Path]]:
    """Return a page's text with links to source files turned into links to their pages, and all files it links to.

    What does not exist, or lies outside `root`, is left for MkDocs to report.
    """
    linked = []

    def changed(found: re.Match[str]) -> str:
        target = found["target"]
        if not target or ":" in target:
            return found[0]
        file = Path(os.path.normpath(page.parent / target))
        if not file.exists() or not file.is_relative_to(root):
            return target
        linked.append(file)
        return os.path.relpath(root / _page_of(file, root), page.parent)

    return CODE_OR_LINK.sub(changed, text), linked


def main() -> None:
    """Parse --output and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "site", help="the folder that is written; default: site/")
    output = parser.parse_args().output
    try:
        build(ROOT, output)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{output / 'index.html'}")


if __name__ == "__main__":
    main()
