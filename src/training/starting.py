"""--start-from: a fold begins with the weights of another run's same fold.

That network has not seen the images that the fold holds out, so its score stays honest, which one file of --weights for
all folds would not promise. For training on at another size, with cleaner labels or other augmentation. The two runs
may be of different snapshots, as long as none of the images held out now was trained on then.
"""

from torch import nn

from src.config import TrainConfig
from src.core.errors import InputError
from src.models.build import load_weights, read_weights
from src.models.contract import find_backbone
from src.runs.fold import TrainedFold
from src.runs.run import Run, open_run, run_folder


def check_start(config: TrainConfig) -> None:
    """Raise InputError if the weights to begin with contradict each other, or may have seen what a fold holds out."""
    name, weights = config.start_from, config.weights
    if name == config.run_name:
        raise InputError(f"--start-from {name}: is the run itself; a stopped training resumes by itself")
    if name and weights and not find_backbone(config.backbone).takes_weights_file:
        raise InputError(f"--start-from {name} --weights {weights}: give one of them")
    runs = run_folder(config, config.run_name).parent.resolve()
    if weights and weights.resolve().is_relative_to(runs):
        run = weights.resolve().relative_to(runs).parts[0]
        raise InputError(
            f"--weights {weights}: was trained on this competition's images, perhaps on those that a fold holds out; "
            f"use --start-from {run}, which gives each fold its own"
        )


def start_from(backbone: nn.Module, config: TrainConfig, run: Run, number: int) -> None:
    """Load the weights of the other run's fold `number`. Raises InputError if they are missing, do not fit, or come
    from images that this fold holds out."""
    starter = open_run(config, str(config.start_from))
    fold = starter.open_fold(number)
    _check_unseen(fold, starter, run)
    if not fold.result or not fold.weights_fit():
        raise InputError(f"{fold.weights_file}: is missing or damaged; {fold.repair}")
    source = f"--start-from {starter.name}, whose network is {starter.begun.model.backbone}"
    load_weights(backbone, read_weights(fold.weights_file), source)
    print(f"fold {number}: starts from fold {number} of {starter.name}, score {fold.result.score_tta:.4f}")


def _check_unseen(fold: TrainedFold, starter: Run, run: Run) -> None:
    """Raise InputError if an image that the fold holds out now was trained on then."""
    if starter.prepared.id == run.prepared.id:
        return
    then, now = starter.prepared.folds, run.prepared.folds
    trained_on = then.loc[then["fold"] != fold.number, "image_path"]
    held_out = now.loc[now["fold"] == fold.number, "image_path"]
    seen = held_out[held_out.isin(trained_on)]
    if len(seen):
        raise InputError(
            f"--start-from {starter.name}: its fold {fold.number} was trained on {len(seen):,} images that this fold "
            f"holds out, such as {seen.iloc[0]}; prepare with the same folds, or omit the flag"
        )
