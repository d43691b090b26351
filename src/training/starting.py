"""--start-from: a fold begins with the weights of another run's same fold.

That network has not seen the images that the fold holds out, so its score stays unbiased, which one file of --weights
for all folds would not promise. For training on at another size, with cleaner labels or other augmentation. The two
runs may be of different snapshots, as long as none of the images held out now was trained on then.
"""

from torch import nn

from src.competitions.registry import load_competition
from src.config import TrainConfig
from src.core.errors import InputError
from src.models.build import OURS, load_weights, read_weights
from src.models.contract import find_backbone, last_layer
from src.runs.fold import TrainedFold
from src.runs.record import HASH
from src.runs.run import Run, open_run


def check_start(config: TrainConfig) -> None:
    """Raise InputError if the weights to begin with contradict each other, or may have seen what a fold holds out."""
    name, weights = config.start_from, config.weights
    if name == config.run_name:
        raise InputError(f"--start-from {name}: is the run itself; a stopped training resumes by itself")
    if name and weights and not find_backbone(config.backbone).takes_weights_file:
        raise InputError(f"--start-from {name} --weights {weights}: give one of them")
    if not weights or not weights.resolve().parent.name.startswith("fold"):
        return
    competition, path = load_competition(config.competition), weights.resolve()
    files = competition.input_folder  # NAME:boxes has the images of NAME
    for other in (competition.name, files, f"{files}_boxes"):
        if path.is_relative_to((config.runs_dir / other).resolve()):
            use = f"use --start-from {path.parent.parent.name}, which gives each fold its own"
            raise InputError(
                f"--weights {weights}: was trained on this competition's images, perhaps on those that a fold holds "
                f"out; {use if other == competition.name else 'start from a network of other images'}"
            )


def starting_fold(config: TrainConfig, number: int) -> tuple[Run, TrainedFold]:
    """Return the run that --start-from names, and its fold. Raises InputError unless it is trained to its end."""
    starter = open_run(config, str(config.start_from))
    fold = starter.open_fold(number)
    if not (fold.result and fold.weights_fit()):  # an unfinished fold's result raises too
        raise InputError(f"{fold.weights_file}: is missing or damaged; {fold.repair}")
    return starter, fold


def start_from(backbone: nn.Module, config: TrainConfig, run: Run, number: int) -> None:
    """Load the weights of the other run's fold `number`; a last layer for other classes stays new.

    Raises InputError if they are missing, do not fit, or come from images that this fold holds out.
    """
    starter, fold = starting_fold(config, number)
    _check_unseen(config, starter, run, number)
    state, model = read_weights(fold.weights_file), starter.started_record.model
    if starter.started_record.heads != run.competition.heads:
        last = {f"{OURS}{key}" for key in last_layer(backbone)}
        state = {key: value for key, value in state.items() if key not in last}
    source = f"--start-from {starter.name}, whose network is {model.backbone}"
    load_weights(backbone, state, source, model.image_size)
    score = f"score {fold.result.score:.4f}, with test-time views {fold.result.score_tta:.4f}"
    print(f"fold {number}: starts from fold {number} of {starter.name}, {score}")


def _check_unseen(config: TrainConfig, starter: Run, run: Run, number: int) -> None:
    """Raise InputError if an image that the fold holds out now was trained on then, or by what that run started from.

    A run of the same snapshot was checked when it began.
    """
    now = run.prepared.folds
    val = now.loc[now["fold"].fillna(-1) == number, "image_path"]
    visited: set[str] = set()
    while starter.prepared.id != run.prepared.id and starter.name not in visited:
        visited.add(starter.name)
        then = starter.prepared.folds  # an image without a fold was trained on
        seen = val[val.isin(then.loc[then["fold"].fillna(-1) != number, "image_path"])]
        if len(seen):
            raise InputError(
                f"--start-from {config.start_from}: fold {number} of {starter.name} was trained on {len(seen):,} "
                f"images that this fold holds out, such as {seen.iloc[0]}; use the same folds, or omit the flag"
            )
        before = starter.started_record.train.start_from
        if before is None:
            return
        starter = open_run(config, HASH.sub("", before))
