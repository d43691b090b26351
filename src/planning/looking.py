"""What auto looks at before it chooses: the data, pretrained weights, and the speed of each recipe that fits."""

import math
import shlex
from dataclasses import replace

from src.competitions.spec import Competition
from src.config import AutoConfig, PrepareConfig, TrainConfig
from src.core.errors import InputError
from src.core.flags import flags_of
from src.core.runtime import choose_compute
from src.data.prepared import Prepared
from src.data.split import num_val_of
from src.inference.views import candidates
from src.models.build import NoHubWeights, build_model
from src.models.contract import begins_at_random, linear_last_layer
from src.planning.measuring import rates_of
from src.planning.plan import Data, Rates, choose
from src.planning.recipes import Recipe, Start, recipes_for
from src.planning.record import Clock
from src.sweeping.plan import flags_for, parse_train

MAX_SECONDS = 6.0  # that a rate is measured
SHARE = 0.01  # of the whole time, if that is less
MULTIPLE = 8  # pixels that another image size is a multiple of


def size_of(recipe: Recipe, size: tuple[int, int], competition: Competition) -> tuple[int, int]:
    """Return what the network sees of images that are cached at this size."""
    if recipe.shorter in (None, min(size)):
        return size
    height, width = (round(recipe.shorter / min(size) * one / MULTIPLE) * MULTIPLE for one in size)
    return (height, MULTIPLE * (len(competition.heads) + 2)) if recipe.is_narrow else (height, width)


def flags_of_recipe(
    config: AutoConfig, recipe: Recipe, size: tuple[int, int], competition: Competition
) -> dict[str, str]:
    """Return the flags of train, without epochs and run name."""
    flags = dict(recipe.flags)
    if recipe.start != "scratch":
        flags = {"backbone": config.backbone, **flags}
        if config.weights is not None:
            flags["weights"] = str(config.weights)
    if recipe.start == "texts":
        flags["backbone_options"] = shlex.quote(f"characters={characters_of(competition)}")
    if (seen := size_of(recipe, size, competition)) != size:
        flags["image_size"] = f"{seen[0]} {seen[1]}"
    return {**flags, "seed": str(config.seed), "device": config.device}


def train_config(config: AutoConfig, flags: dict[str, str], run_name: str) -> TrainConfig:
    """Return train's config. Raises InputError."""
    return parse_train(train_parts(config, flags, run_name))


def train_parts(config: AutoConfig, flags: dict[str, str], run_name: str) -> list[str]:
    """Return the flags of train as on a command line; defaults are omitted."""
    paths = path_parts(config)
    default = {"seed": "0", "device": "auto", "backbone": TrainConfig.backbone}
    own = {name: text for name, text in flags.items() if default.get(name) != text}
    return [*paths, "--run-name", run_name, *(part for name, text in own.items() for part in flags_for(name, text))]


def path_parts(config: AutoConfig) -> list[str]:
    """Return --competition and the folders that are not the default ones."""
    return ["--competition", config.competition, *shlex.split(flags_of(config, "input_dir", "runs_dir"))]


def characters_of(competition: Competition) -> str:
    """Return the characters of a competition's strings; empty if its answers are none that a recogniser reads."""
    classes, pad = competition.heads[0].classes, competition.pad_class
    is_text = pad == len(classes) - 1 and all(len(text) == 1 for text in classes[:-1])
    return "".join(classes[:-1]) if is_text else ""


def start_of(config: AutoConfig, competition: Competition, size: tuple[int, int], clock: Clock) -> Start:
    """Return what trainings start from. Raises InputError for a --weights file that does not fit."""
    said, weights = clock.record.looked_at, config.weights
    if not config.pretrained:
        clock.tell("pretrained weights: not used (--no-pretrained); training from scratch", said)
        return "scratch"
    if weights is not None and weights.suffix == ".onnx":
        if not (characters := characters_of(competition)):
            raise InputError(f"--weights {weights}: a text recogniser's; {competition.name}'s answers are not strings")
        extra = {"characters": characters}
        build_model("text_recognition", competition.layout, (48, 64), extra=extra, weights=weights)
        clock.tell(f"pretrained weights: {weights}, a text recogniser's", said)
        return "texts"
    try:
        build_model(config.backbone, competition.layout, size, competition.channels, pretrained=True, weights=weights)
    except NoHubWeights as error:
        clock.tell(f"pretrained weights: none ({error}); training from scratch", said)
        return "scratch"
    if begins_at_random(config.backbone, config.pretrained, config.weights):
        clock.tell(f"pretrained weights: {config.backbone} has none; give --weights", said)
    else:
        clock.tell(f"pretrained weights: {weights or 'from the hub'} for {config.backbone}", said)
    return "photos"


def can_probe(config: AutoConfig, competition: Competition, size: tuple[int, int]) -> bool:
    """Return whether a linear probe can be trained on the network's features, and they are not random."""
    if begins_at_random(config.backbone, config.pretrained, config.weights):
        return False
    try:
        linear_last_layer(build_model(config.backbone, competition.layout, size, competition.channels), "a probe")
    except InputError:
        return False
    return True


def data_of(prepared: Prepared, may_hold_out: bool = False) -> Data:
    """Return how many images there are; `may_hold_out`: whether there may be one held-out part instead of folds."""
    num_images = len(prepared.labels)
    sizes = prepared.folds["fold"].value_counts()
    return Data(
        num_images=num_images,
        num_test=prepared.test["image_path"].nunique(),
        num_views=len(candidates((), prepared.competition, prepared.image_size)),
        num_folds=len(sizes),
        fold_size=int(sizes.max()),
        holdout_size=num_val_of(PrepareConfig(), num_images) if may_hold_out else None,
    )


def describe(data: Data, prepared: Prepared) -> str:
    """Return a line about the data."""
    heads, (height, width) = prepared.competition.heads, prepared.image_size
    kinds = " and ".join(sorted({head.kind for head in heads}))
    return (
        f"data: {data.num_images:,} labelled and {data.num_test:,} test images of {height}x{width}, {len(heads)} "
        f"head{'s' * (len(heads) > 1)} of kind {kinds}"
    )


def measure_all(
    config: AutoConfig, competition: Competition, size: tuple[int, int], start: Start, data: Data, clock: Clock
) -> list[tuple[Recipe, Rates]]:
    """Return the recipes that fit with their speed here, the preferred one first. Raises InputError if none fits."""
    compute = choose_compute(config.device, "auto")
    seconds = min(MAX_SECONDS, SHARE * 60 * config.minutes)
    measured: list[tuple[Recipe, Rates]] = []
    recipes = recipes_for(competition, min(size), start)
    seen = {recipe.name: size_of(recipe, size, competition) for recipe in recipes}
    for recipe in sorted(recipes, key=lambda one: math.prod(seen[one.name])):
        likely = _scaled(recipe, measured[-1], seen) if measured else None
        if likely and choose([(recipe, _doubled(likely))], replace(data, num_views=1), clock.left) is None:
            line = f"not measured: {recipe.name}: sees too few images, going by the speed of {measured[-1][0].name}"
            clock.tell(line, clock.record.measured)
            measured.append((recipe, likely))  # a linear probe may still see images of this size
            continue
        flags = flags_of_recipe(config, recipe, size, competition)
        train = replace(train_config(config, flags, config.run_name), image_size=seen[recipe.name])
        try:
            rates = rates_of(train, competition, compute, seconds)
        except InputError as error:
            clock.tell(f"measured: {recipe.name}: does not fit ({error})", clock.record.measured)
            continue
        measured.append((recipe, rates))
        clock.tell(
            f"measured: {recipe.name}: {rates.train:,.0f} images/s in training, {rates.predict:,.0f} predicting; "
            f"tested: {recipe.tested}",
            clock.record.measured,
        )
    if not measured:
        raise InputError(f"{config.competition}: no recipe fits; train by hand with python -m src.train")
    return sorted(measured, key=lambda one: recipes.index(one[0]))


def _scaled(recipe: Recipe, smaller: tuple[Recipe, Rates], seen: dict[str, tuple[int, int]]) -> Rates | None:
    """Return the rates of a recipe if each pixel costs what it does in a smaller one of the same network."""
    other, rates = smaller
    if recipe.flags.get("backbone") != other.flags.get("backbone"):
        return None
    ratio = math.prod(seen[other.name]) / math.prod(seen[recipe.name])
    return Rates(train=ratio * rates.train, predict=ratio * rates.predict)


def _doubled(rates: Rates) -> Rates:
    """Return twice the rates: larger images may cost less a pixel."""
    return Rates(train=2 * rates.train, predict=2 * rates.predict)
