"""From --set, --seed and --fold to runs and tasks."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product

from src.config import Paths, SweepConfig, TrainConfig
from src.core.errors import InputError
from src.core.flags import check_name
from src.core.parsing import parse

TAKEN = ("run_name", "seed", "fold", "competition", "input_dir", "runs_dir", "submissions_dir", "restart", "resume")
DEFAULT = "default"  # this value omits the flag
BASE = "base"
SEVERAL = {field.name for field in fields(TrainConfig) if "tuple" in str(field.type)}  # flags of several words


@dataclass(frozen=True, kw_only=True)
class Member:
    """One run of a sweep."""

    name: str
    settings: dict[str, str]  # that differ between runs of the sweep; of --one-at-a-time: the change
    seed: int
    flags: tuple[str, ...]  # of train, without --fold
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """One fold of one run: a command that can be started again until it succeeds."""

    member: Member
    fold: int

    @property
    def name(self) -> str:
        return f"{self.member.name} fold {self.fold}"

    def command(self, restart: bool) -> list[str]:
        """Return the command after `python`."""
        flags = (*self.member.flags, "--fold", str(self.fold), *(("--restart",) if restart else ()))
        return ["-m", "src.train", *flags]


def _choices(text: str) -> tuple[str, list[str]]:
    """Split "lr=1e-3,2e-3" into the flag and its values. Raises InputError."""
    name, sign, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    if not sign or not name or not values or "" in values.split(","):
        raise InputError(f"--set {text}: give a flag of train and its values, as in lr=1e-3,2e-3")
    if name in TAKEN:
        raise InputError(f"--set {text}: {name} is a flag of sweep itself, or is set by it")
    return name, values.split(",")


def path_flags(paths: Paths) -> list[str]:
    """Return the flags that name the competition and the folders of images and runs."""
    folders = ["--input-dir", str(paths.input_dir), "--runs-dir", str(paths.runs_dir)]
    return ["--competition", paths.competition, *folders]


def flags_for(name: str, value: str) -> list[str]:
    """Return a flag of train; true and false make a switch, DEFAULT nothing. Words are split as a shell would.

    Raises InputError for an open quote.
    """
    if value == DEFAULT:
        return []
    flag = f"--{name.replace('_', '-')}"
    if value.lower() in ("true", "false"):
        return [flag if value.lower() == "true" else flag.replace("--", "--no-", 1)]
    try:
        return [flag, *(shlex.split(value) if name in SEVERAL else [value])]
    except ValueError as error:
        raise InputError(f"{flag} {value}: {str(error).lower()}") from error


def _short(value: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", value.rsplit("/", 1)[-1])


def parse_train(flags: Sequence[str]) -> TrainConfig:
    """Return train's config. Raises InputError for flags that train does not take."""
    return parse(TrainConfig, flags, "python -m src.train")


Combination = tuple[dict[str, str], dict[str, str], str]  # all values, those shown in the table, name of the run


def _every(chosen: dict[str, list[str]]) -> Iterator[Combination]:
    """Yield every combination of the values."""
    for values in product(*chosen.values()):
        every = dict(zip(chosen, values, strict=True))
        varied = {name: value for name, value in every.items() if len(chosen[name]) > 1}
        yield every, varied, "-".join(_named(name, value) for name, value in varied.items())


def _one_at_a_time(chosen: dict[str, list[str]]) -> Iterator[Combination]:
    """Yield the first values together, then each further value alone."""
    base = {name: values[0] for name, values in chosen.items()}
    yield base, {"change": BASE}, BASE
    for name, values in chosen.items():
        for value in values[1:]:
            yield base | {name: value}, {"change": f"{name}={value}"}, _named(name, value)


def _named(name: str, value: str) -> str:
    return f"{name.rsplit('.', 1)[-1]}{_short(value)}"


def members(config: SweepConfig) -> list[Member]:
    """Return the runs of a sweep, one seed after another, so that an unfinished sweep compares all with few seeds.

    Raises InputError for flags that train does not take, and for repeated ones.
    """
    read = [_choices(text) for text in config.set]
    names = [name for name, _ in read]
    if len(set(names)) < len(names):
        raise InputError(f"--set: {max(names, key=names.count)} appears twice")
    for name, options in [*read, ("seed", [str(seed) for seed in config.seed])]:
        if len(set(options)) < len(options):
            raise InputError(f"--set {name}: a value appears twice")
    common = path_flags(config)
    if config.one_at_a_time and all(len(values) == 1 for _, values in read):
        raise InputError("--one-at-a-time: no flag in --set has a second value; give one, as in mixup=0,0.2")
    combine = _one_at_a_time if config.one_at_a_time else _every
    found: list[Member] = []
    for seed in config.seed:
        for every, shown, named in combine(dict(read)):
            run = "-".join(filter(None, [config.run_name, named, f"s{seed}"]))
            check_name("run-name", run)
            if any(member.name == run for member in found):
                raise InputError(f"--set: two runs would be called {run}; give files of different names")
            own = [part for name, value in every.items() for part in flags_for(name, value)]
            flags = (*common, "--run-name", run, "--seed", str(seed), *own)
            epochs = parse_train(flags).epochs
            found.append(Member(name=run, settings=shown, seed=seed, flags=flags, epochs=epochs))
    return found
