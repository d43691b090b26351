"""From --space to what Optuna draws from, checked with the checks of train itself."""

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from src.competitions.spec import Competition
from src.config import Paths, TrainConfig
from src.core.errors import InputError, nearest
from src.models.contract import find_backbone
from src.sweeping.plan import TAKEN, flags_for, parse_train, path_flags
from src.training.checks import check_flags

EXAMPLE = "lr=1e-4..1e-2:log, epochs=8..24, augment.rotate=0..20:step=5 or backbone=resnet18,svhn_cnn"
DIGITS = 4  # significant ones of a drawn number: the command that is printed trains exactly what was tried


def flag_types(kind: type = TrainConfig, prefix: str = "") -> dict[str, Any]:
    """Return the type of each flag of train by name, such as augment.rotate."""
    types, found = get_type_hints(kind), dict[str, Any]()
    for item in fields(kind):
        if is_dataclass(types[item.name]):
            found |= flag_types(types[item.name], f"{prefix}{item.name}.")
        else:
            found[prefix + item.name] = types[item.name]
    return found


def value_in(config: Any, name: str) -> Any:
    """Return the value of a flag such as augment.rotate."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def as_text(value: Any) -> str:
    """Return a drawn value as it is written on a command line."""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is searched (flag: distribution) and what is the same in every training (flag: text)."""

    searched: dict[str, BaseDistribution]
    fixed: dict[str, str]

    def flags(self, params: dict[str, Any]) -> list[str]:
        """Return the flags of a training with these values of the searched ones."""
        texts = self.fixed | {name: as_text(value) for name, value in params.items()}
        return [part for name, text in texts.items() for part in flags_for(name, text)]

    def defaults(self) -> dict[str, Any] | None:
        """Return train's own values of the searched flags, or None if one is outside the space."""
        found: dict[str, Any] = {}
        for name, distribution in self.searched.items():
            default = value_in(TrainConfig(), name)
            if isinstance(distribution, CategoricalDistribution):
                same = [text for text in distribution.choices if self._parsed(name, str(text)) == default]
                if not same:
                    return None
                found[name] = same[0]
            elif default is None or not _holds(distribution, default):
                return None
            else:
                found[name] = default
        return found

    @staticmethod
    def _parsed(name: str, text: str) -> Any:
        return value_in(parse_train(flags_for(name, text)), name)


def _holds(distribution: BaseDistribution, value: float) -> bool:
    """Return whether a range holds a number, on its grid if it has one."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    steps = (value - distribution.low) / distribution.step if distribution.step else 0.0
    return distribution.low <= value <= distribution.high and math.isclose(steps, round(steps), abs_tol=1e-9)


def _number(text: str, whole: bool, given: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (whole and value != int(value)):
        raise InputError(f"--space {given}: {text!r} is not a {'whole ' if whole else ''}number; such as {EXAMPLE}")
    return int(value) if whole else value


def _range(name: str, text: str, given: str, kind: Any) -> BaseDistribution:
    """Return the distribution of "low..high", "low..high:log" or "low..high:step=5". Raises InputError."""
    kinds = {kind, *get_args(kind)} - {type(None)}
    if not kinds & {int, float}:
        raise InputError(f"--space {given}: {name} is not a number, so it has no range; list its values: {name}=a,b")
    whole = int in kinds
    ends, *options = text.split(":")
    low, high = (_number(part, whole, given) for part in ends.split("..", 1))
    if not low < high:
        raise InputError(f"--space {given}: the first end must be less than the second")
    log, step = False, None
    for option in options:
        if option == "log":
            log = True
        elif option.startswith("step="):
            step = _number(option[5:], whole, given)
        else:
            raise InputError(f"--space {given}: no option {option!r}; there are :log and :step=NUMBER")
    if log and (low <= 0 or step is not None):
        raise InputError(f"--space {given}: :log needs ends above 0, and no :step")
    if step is not None and not 0 < step <= high - low:
        raise InputError(f"--space {given}: the step must be above 0 and at most {high - low:g}")
    if whole:
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)


def read_space(texts: tuple[str, ...]) -> Space:
    """Return the space that --space describes. Raises InputError for unknown flags and impossible ranges."""
    types, searched, fixed = flag_types(), dict[str, BaseDistribution](), dict[str, str]()
    for given in texts:
        name, sign, text = given.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not sign or not name or not text:
            raise InputError(f"--space {given}: give a flag of train and its values, such as {EXAMPLE}")
        if name in TAKEN and name != "seed":
            raise InputError(f"--space {given}: {name} is a flag of search itself, or is set by it")
        if name not in types:
            raise InputError(f"--space {given}: train has no flag {name!r}; {nearest(name, list(types))}")
        if name in searched or name in fixed:
            raise InputError(f"--space {given}: {name} appears twice")
        if ".." in text and "/" not in text:
            searched[name] = _range(name, text, given, types[name])
            continue
        values = text.split(",")
        if "" in values or len(set(values)) < len(values):
            raise InputError(f"--space {given}: a value is empty or there twice")
        if len(values) == 1:
            fixed[name] = text
        else:
            searched[name] = CategoricalDistribution(values)
    if not searched:
        raise InputError(f"--space: nothing to search; give a range or a list, such as {EXAMPLE}")
    return Space(searched=searched, fixed=fixed)


def check_space(space: Space, paths: Paths, competition: Competition) -> None:
    """Raise InputError for values that train would refuse: each end of a range, each value of a list on its own."""
    for name in ("start_from", "pseudo_labels"):
        if name in space.searched or name in space.fixed:
            raise InputError(f"--space {name}=…: names another run, and trials see none; train with that flag yourself")
    # The folders tell whether --weights are a run's of this competition, which may have seen the reported fold.
    flags = path_flags(paths)
    for name, distribution in space.searched.items():
        if isinstance(distribution, CategoricalDistribution):
            tried = list(distribution.choices)
        else:
            assert isinstance(distribution, IntDistribution | FloatDistribution)
            tried = [distribution.low, distribution.high]
        for value in tried:
            shown = f"--space {name}={as_text(value)}"
            try:
                config = parse_train([*flags, *space.flags({name: value})])
                if "backbone" in (name, *space.fixed):
                    find_backbone(config.backbone)
            except InputError as error:
                raise InputError(f"{shown}: {error}") from error
            _check_alone(shown, config, competition)


def _check_alone(shown: str, config: TrainConfig, competition: Competition) -> None:
    try:
        check_flags(config, competition)
        if config.weights is not None and not config.weights.is_file():
            raise InputError(f"--weights {config.weights}: no such file")
    except InputError as error:
        raise InputError(f"{shown}: {error}") from error
