"""Every command's flags: a field is a flag, its docstring the help text."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from src.core.errors import InputError
from src.data.augment import Augment


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where things are read and written."""

    competition: str = "svhn"
    """A name under src/competitions/, or the path of a .py file of your own."""
    input_dir: Path = Path("input")
    """Holds one folder per competition with the organiser's files; never written to."""
    runs_dir: Path = Path("runs")
    """Holds <competition>/prepared/ and one folder per run."""
    submissions_dir: Path = Path("submissions")
    """Holds <competition>/<run>.csv."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Paths):
    """Labels, checks, folds and the decoded cache."""

    split: Literal["kfold", "official", "holdout"] = "kfold"
    """kfold: over all labelled images; official: the organiser's validation set is the one held-out fold; holdout: one
    fold of about --num-val images, all others are always trained on."""
    num_folds: int = 5
    """Folds of --split kfold."""
    num_val: int = 1000
    """Images of --split holdout."""
    folds: Path | None = None
    """A folds.csv of your own (image_path,fold), instead of --split."""
    image_size: tuple[int, int] | None = None
    """Height and width of the cache in pixels; default: the competition's."""
    seed: int = 0
    """Of the folds."""
    strict: bool = False
    """Stop at any problem with an image (exit code 2), instead of going on without it."""
    max_pixels: int = 50_000_000
    """Images with more pixels are refused from their header."""
    num_processes: int | None = None
    """Processes that decode what this one has not in its first two seconds; default: one per core."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Paths):
    """One network per fold."""

    fold: str = "all"
    """A fold's number, or all."""
    run_name: str = "baseline"
    """Name of the run."""
    backbone: str = "tf_efficientnet_lite0"
    """Any timm model, or one under src/models/."""
    backbone_options: tuple[str, ...] = ()
    """The network's own options, such as batch_norm=False or num_points=1 for nin."""
    pretrained: bool = True
    """Start from timm's pretrained weights (downloaded from the hub once)."""
    weights: Path | None = None
    """Start from this file (.safetensors or .pth in timm's naming), with no download."""
    image_size: tuple[int, int] | None = None
    """Height and width that the network sees; default: the cache's."""
    progressive_resize: float = 1.0
    """Share of the image size that training begins with; it grows evenly to the whole in the first 70% of epochs."""
    freeze_backbone: bool = False
    """Train the last layer alone, on features computed once (no augmentation but flips): a quick baseline."""
    epochs: int = 24
    batch_size: int = 64
    """Images per optimizer step."""
    accumulate: int = 1
    """Micro-batches per optimizer step, each of batch_size / accumulate images; doubled by itself where the memory does
    not suffice."""
    lr: float = 2e-3
    """Peak learning rate."""
    optimizer: str = "adamw"
    """Any name that timm's create_optimizer_v2 knows."""
    weight_decay: float = 0.02
    momentum: float = 0.9
    """Of sgd and its kin."""
    layer_decay: float | None = None
    """Factor on lr per layer below the head, such as 0.75."""
    schedule: Literal["onecycle", "cosine", "step", "constant"] = "onecycle"
    warmup: float = 0.2
    """Share of all steps in which lr rises from near 0."""
    label_smoothing: float = 0.05
    dropout: float = 0.2
    """Before the last layer, where the backbone has it."""
    drop_path: float | None = None
    """Stochastic depth, where the backbone has it."""
    mixup: float = 0.0
    """Alpha of mixup; 0 is none."""
    cutmix: float = 0.0
    """Alpha of CutMix; 0 is none; only for competitions with one head."""
    ema: float = 0.998
    """Decay per step of the weights' moving average, which is what is scored and kept; 0 is none."""
    clip_grad: float | None = 5.0
    """Largest norm of the gradient."""
    augment: Augment = field(default_factory=Augment)
    early_stopping: int | None = None
    """Stop after so many epochs without a better score. The score is then optimistic: it chose the epoch."""
    keep: Literal["last", "best"] = "last"
    """Whose weights make the out-of-fold predictions and the submission. best is optimistic in the same way."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the GPU has it, else fp16; fp32 on a CPU."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    compile: bool = False
    """torch.compile; pays back in long trainings."""
    cache_on_device: Literal["auto", "on", "off"] = "auto"
    """Keep all images in the GPU's memory and augment whole batches there; auto: where there is a GPU with room."""
    num_threads: int | None = None
    """Threads that prepare batches; default: 0 on a CPU (the step needs the cores), 4 with a GPU."""
    deterministic: bool = False
    """Only algorithms that give the same bits each time (a GPU's fastest do not; a CPU's do anyway)."""
    profile: bool = False
    """Time some steps: fold<k>/profile.csv (data, forward, backward, optimizer) and trace.json."""
    save_every: float = 10.0
    """Minutes between saves within an epoch. Its end is saved too, and on Ctrl-C or SIGTERM the step at hand."""
    seed: int = 0
    resume: bool = False
    """Insist on going on with an interrupted training (the same command goes on by itself)."""
    restart: bool = False
    """Throw away what this run has trained for this fold."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig(TrainConfig):
    """The flags of train, on made-up images."""

    steps: int = 20
    """Steps that are timed, of each kind."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Paths):
    """The out-of-fold score of a run."""

    run_name: str = "baseline"
    folds: tuple[int, ...] | None = None
    """Score these folds only and say so; default: all, and none may be missing."""
    tta: bool = True
    """Score the mean over the same views that predict uses, or the plain image."""
    num_worst: int = 200
    """Mistakes listed in worst.csv, the most confident first."""
    num_bootstrap: int = 2000
    """Resamples for the confidence interval."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Paths):
    """A validated submission."""

    run_name: tuple[str, ...] = ("baseline",)
    """One or more runs; their probabilities are averaged with equal weights (see blend for fitted ones)."""
    folds: tuple[int, ...] | None = None
    """Folds to use; default: all that are trained."""
    tta: bool = True
    """Average over label-safe views, or the plain image only."""
    name: str | None = None
    """Name of the submission; default: the runs' names joined by +."""
    batch_size: int | None = None
    """Default: 256; with a GPU, the fastest of a few where predicting takes longer than 20 seconds."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: where a fold takes more than ten minutes and a trial shows it faster."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"


@dataclass(frozen=True, kw_only=True)
class BlendConfig(Paths):
    """Several runs combined with weights fitted on their out-of-fold predictions."""

    run_name: tuple[str, ...] = ()
    """Two or more runs with out-of-fold predictions for the same images."""
    name: str = "blend"
    """Name of the blended submission."""
    rounds: int = 30
    """Rounds of greedy selection with replacement."""
    outer_folds: int = 5
    """Folds of the outer cross-validation that measures the gain."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(Paths):
    """What is about to be trained."""

    backbone: str = "tf_efficientnet_lite0"
    """Whose checkpoints need room on the disk."""
    num_folds: int = 5
    image_size: tuple[int, int] | None = None
    """Height and width of the cache; default: the competition's."""


@dataclass(frozen=True, kw_only=True)
class SummaryConfig:
    """What a network costs."""

    backbone: str = "tf_efficientnet_lite0"
    """Any timm model, or one under src/models/."""
    backbone_options: tuple[str, ...] = ()
    """The network's own options, such as batch_norm=False."""
    competition: str = "svhn"
    """Whose image size, channels and classes count, unless given."""
    num_outputs: int | None = None
    """Classes of all heads together."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels."""


def check_range(flag: str, value: float | None, low: float, high: float = 2**31) -> None:
    """Raise InputError where a flag's value is not within [low, high]; None passes, NaN does not."""
    if value is not None and not low <= value <= high:
        raise InputError(f"--{flag} {value}: must be at least {low:g} and at most {high:g}")


def check_name(flag: str, name: str) -> None:
    """Raise InputError where a run's or submission's name could not be one plain file name."""
    if not name or Path(name).name != name or "\\" in name or name.startswith(".") or name == "prepared":
        raise InputError(f"--{flag} {name!r}: must be a plain name, other than 'prepared'")
