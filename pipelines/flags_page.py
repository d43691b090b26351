"""Write docs/flags.md: every flag of every command, from src/config/.

    python -m pipelines.flags_page

A flag is a field, its meaning the string below the field.
"""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from src import config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "flags.md"
COMMANDS: dict[str, type] = {
    "download": config.DownloadConfig,
    "prepare": config.PrepareConfig,
    "train": config.TrainConfig,
    "evaluate": config.EvaluateConfig,
    "predict": config.PredictConfig,
    "blend": config.BlendConfig,
    "submit": config.SubmitConfig,
    "crops": config.CropsConfig,
    "export": config.ExportConfig,
    "serve": config.ServeConfig,
    "sweep": config.SweepConfig,
    "compare": config.CompareConfig,
    "watch": config.WatchConfig,
    "search": config.SearchConfig,
    "auto": config.AutoConfig,
    "doctor": config.DoctorConfig,
    "summary": config.SummaryConfig,
    "bench": config.BenchConfig,
    "make_demo": config.MakeDemoConfig,
}
HEADER = """# Flags

Made from `src/config/` by `python -m pipelines.flags_page`: change the field there, not this page. `--help` prints
the same. Several values are separated by spaces, as in `--image-size 64 128`. If the text does not explain a default of
`None`, it means off.
"""


def meanings(kind: type) -> dict[str, str]:
    """Return the string below each field of a config class."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            found[statement.target.id] = str(text.value) if isinstance(text, ast.Constant) else ""
    return found


def owner(kind: type, name: str) -> type:
    """Return the class that a field's default and meaning come from."""
    return next(base for base in kind.__mro__ if name in base.__dict__.get("__annotations__", {}))


def flags(kind: type, prefix: str = "") -> Iterator[tuple[str, Any, Field[Any], type]]:
    """Yield each flag of a config class, those of nested ones too: its name, type, field and owner."""
    types = get_type_hints(kind)
    for item in fields(kind):
        if is_dataclass(types[item.name]):
            yield from flags(types[item.name], f"{prefix}{item.name}.")
        else:
            name = f"--{prefix}{item.name}".replace("_", "-")
            yield name, types[item.name], item, owner(kind, item.name)


def flag_names(kind: type) -> set[str]:
    """Return all flags that a command takes, the negative forms of switches and other spellings too."""
    names = set(getattr(kind, "ALIASES", ()))
    for name, of, _, _ in flags(kind):
        names |= {name, f"--no-{name[2:]}"} if of is bool else {name}
    return names


def values(of: Any) -> str:
    """Return what a flag takes, as --help writes it."""
    if get_origin(of) in (Union, UnionType):
        return values(next(part for part in get_args(of) if part is not type(None)))
    if get_origin(of) is Literal:
        return "{" + ",".join(get_args(of)) + "}"
    if get_origin(of) is tuple:
        parts = get_args(of)
        return f"{values(parts[0])} ..." if parts[-1] is Ellipsis else " ".join(map(values, parts))
    return {int: "INT", float: "FLOAT", Path: "PATH"}.get(of, "TEXT")


def row(name: str, of: Any, item: Field[Any], base: type) -> str:
    """Return a row of a table."""
    default = item.default if item.default is not MISSING else ""
    if of is bool:
        flag, default = f"`{name}`, `--no-{name[2:]}`", "on" if default else "off"
    else:
        flag = f"`{name} {values(of)}`"
        default = " ".join(map(str, default)) if isinstance(default, tuple) else default
    meaning = " ".join(meanings(base)[item.name].split()).replace("<", "&lt;").replace("|", "\\|")
    return f"| {flag} | {default} | {meaning} |"


def section(title: str, kind: type, without: set[str], note: str = "") -> list[str]:
    """Return a heading, the class's own sentence and the table of its flags."""
    rows = [row(*flag) for flag in flags(kind) if flag[0] not in without]
    table = ["", "| flag | default | meaning |", "|---|---|---|", *rows] if rows else []
    return ["", f"## {title}", "", f"{inspect.getdoc(kind)}{note}", *table]


def page() -> str:
    """Return docs/flags.md."""
    shared = flag_names(config.Paths)
    lines = section("All commands", config.Paths, set(), " `make_demo` takes only `--input-dir` of these.")
    for command, kind in COMMANDS.items():
        # A command that takes all flags of another one names it instead of repeating them.
        base = next((name for name, other in COMMANDS.items() if other in kind.__mro__[1:]), None)
        note = f" Besides those of [{base}](#{base}):" if base else ""
        without = flag_names(COMMANDS[base]) if base else shared if issubclass(kind, config.Paths) else set()
        lines += section(command, kind, without, note)
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    from src.core.writing import write_text  # numpy; the site is built without

    write_text(PAGE, page())
    print(PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE)
