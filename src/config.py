"""Every command's flags: a field is a flag, its docstring the help text. Standard library only: --help is quick."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Strengths of the random changes; 0 is off. Each has its entry in src/data/augmentations.py."""

    rotate: float = 10.0
    """Degrees, either way."""
    zoom: float = 0.15
    """Share of the size, in or out."""
    stretch: float = 0.0
    """Share by which the aspect ratio changes, either way."""
    shear: float = 0.0
    """Degrees, either way."""
    shift: float = 0.06
    """Share of height and width, either way."""
    hflip: float | None = None
    """Probability of a horizontal flip; default: 0.5 if the competition allows it, else 0. With 0.5 an image is flipped
    in every second epoch, half of the images in the even ones."""
    saturation: float = 0.3
    """Share, either way."""
    contrast: float = 0.2
    """Share, either way."""
    brightness: float = 0.15
    """Share of 255 that is added, either way."""
    tint: float = 0.05
    """Share of 255 that is added to each channel independently, either way."""
    invert: float = 0.0
    """Probability of the negative."""
    erase: float = 0.0
    """Probability that a rectangle of 2-20% of the image is painted over."""
    effects: float = 0.0
    """Probability of blur, noise or JPEG artefacts (albumentations, CPU only)."""
    concat: float | None = None
    """Probability that another string is placed to the right of this one, if both fit; default: 0.4 for strings, else
    0."""

    def changes_pixels(self) -> bool:
        """Return whether anything but concatenation is on."""
        return any(value for name, value in vars(self).items() if name != "concat")


NO_AUGMENT = Augment(
    rotate=0, zoom=0, shift=0, brightness=0, contrast=0, saturation=0, tint=0, hflip=0.0, concat=0.0
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Which competition, and where its files are read and written."""

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
    """Labels, checks, folds and the decoded image cache."""

    split: Literal["kfold", "official", "holdout"] = "kfold"
    """kfold: over all labelled images; official: the organiser's validation set is the one held-out fold; holdout: one
    fold of about --num-val images, all others are always trained on."""
    num_folds: int = 5
    """Folds of --split kfold."""
    num_val: int | None = None
    """Images of --split holdout; default: a fifth of them, at most 1000."""
    folds: Path | None = None
    """A folds.csv of your own (image_path,fold), instead of --split."""
    image_size: tuple[int, int] | None = None
    """Height and width of the cache in pixels; default: the competition's. Caches of other sizes are kept."""
    seed: int = 0
    """Of the folds."""
    strict: bool = False
    """Stop at any problem with an image (exit code 2) instead of skipping it."""
    max_unreadable: float = 0.01
    """Largest share of the test images that may be missing or unreadable: their answers come from a black image."""
    max_pixels: int = 50_000_000
    """Images with more pixels are refused from their header."""
    num_processes: int | None = None
    """Decoding processes, started after 2 s; default: one per core."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The flags that decide what is trained. Saved in config.json; a run resumes only with the same ones."""

    backbone: str = "tf_efficientnet_lite0"
    """Any timm model, one under src/models/, or the path of a .py file of your own."""
    backbone_options: tuple[str, ...] = ()
    """The network's own options, such as batch_norm=False or num_points=1 for nin."""
    pretrained: bool = True
    """Start from timm's pretrained weights (downloaded from the hub once)."""
    weights: Path | None = None
    """Start from this file (.safetensors or .pth in timm's naming); nothing is downloaded."""
    image_size: tuple[int, int] | None = None
    """Height and width that the network sees; default: the cache's."""
    progressive_resize: float = 1.0
    """Share of the image size that training begins with; it grows evenly to 1 in the first 70% of epochs."""
    freeze_backbone: bool = False
    """Linear probe: train the last layer alone, on features computed once (no augmentation but flips)."""
    epochs: int = 24
    """Passes over the training images."""
    batch_size: int = 64
    """Images per optimizer step."""
    accumulate: int = 1
    """Micro-batches per optimizer step, each of batch_size / accumulate images; doubled automatically when memory runs
    out."""
    lr: float = 2e-3
    """Peak learning rate."""
    optimizer: str = "adamw"
    """Any name that timm's create_optimizer_v2 knows."""
    weight_decay: float = 0.02
    """Of the optimizer; not of biases and normalisation."""
    momentum: float = 0.9
    """Of SGD and its variants."""
    layer_decay: float | None = None
    """Factor on lr per layer below the head, such as 0.75."""
    schedule: Literal["onecycle", "cosine", "step", "constant"] = "onecycle"
    """How lr falls after the warm-up: by a cosine, in two steps, or not at all."""
    warmup: float = 0.2
    """Share of all steps in which lr rises from near 0."""
    loss: str = "cross_entropy"
    """A name in LOSSES of src/training/losses.py."""
    label_smoothing: float = 0.05
    """Share of the target spread over all classes."""
    dropout: float = 0.2
    """Before the last layer, if the backbone has it."""
    drop_path: float | None = None
    """Stochastic depth, if the backbone has it."""
    mixup: float = 0.0
    """Alpha of mixup; 0 is off."""
    cutmix: float = 0.0
    """Alpha of CutMix; 0 is off; only for competitions with one head."""
    ema: float = 0.998
    """Decay per step of the weights' moving average, which is what is scored and kept; 0 is off."""
    clip_grad: float | None = 5.0
    """Largest norm of the gradient."""
    augment: Augment = field(default_factory=Augment)
    early_stopping: int | None = None
    """Stop after this many epochs without a better score. The score is then optimistic: it chose the epoch."""
    keep: Literal["last", "best"] = "last"
    """Whose weights make the out-of-fold predictions and the submission. best is optimistic for the same reason."""
    precision: Precision = "auto"
    """auto: bf16 if the GPU has it, else fp16; fp32 on a CPU."""
    compile: bool = False
    """torch.compile; pays back in long trainings."""
    deterministic: bool = False
    """Only algorithms that give the same bits each time (a GPU's fastest do not; a CPU's always do)."""
    seed: int = 0
    """Of new layers, batches, augmentation and dropout."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainSettings, Paths):
    """One network per fold."""

    fold: str = "all"
    """A fold's number, or all."""
    run_name: str = "baseline"
    """Name of the run."""
    device: Device = "auto"
    """auto: cuda, mps or cpu, the first that this machine has."""
    cache_on_device: Literal["auto", "on", "off"] = "auto"
    """Keep all images in the GPU's memory and augment whole batches there; auto: if there is a GPU with room."""
    num_threads: int | None = None
    """Threads that prepare batches; default: 0 on a CPU (the step needs the cores), 4 with a GPU."""
    profile: bool = False
    """Time some steps: fold<k>/profile.csv (data, forward, backward, optimizer) and trace.json."""
    save_every: float = 10.0
    """Minutes between saves within an epoch; its end is saved too, and the current step on Ctrl-C or SIGTERM."""
    resume: bool = False
    """Fail unless there is a checkpoint to resume from (without this flag, training resumes if there is one)."""
    restart: bool = False
    """Discard what this run has trained for this fold."""

    @property
    def settings(self) -> TrainSettings:
        """The part that decides what is trained."""
        return TrainSettings(**{item.name: getattr(self, item.name) for item in fields(TrainSettings)})


@dataclass(frozen=True, kw_only=True)
class BenchConfig(TrainConfig):
    """The flags of train, on synthetic images."""

    steps: int = 20
    """Steps that are timed, of each kind."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Paths):
    """The out-of-fold score of a run."""

    run_name: str = "baseline"
    """Name of the run."""
    folds: tuple[int, ...] | None = None
    """Score these folds only and say so; default: all, and none may be missing."""
    tta: bool = True
    """Score the mean over the same views that predict uses, or the plain image."""
    num_worst: int = 200
    """Mistakes listed in worst.csv, the most confident first."""


@dataclass(frozen=True, kw_only=True)
class InferenceFlags:
    """How test images are answered; the same bits on another day need the same values."""

    batch_size: int | None = None
    """Default: 256; with a GPU, the fastest of a few if predicting takes longer than 20 seconds."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: if a fold takes more than ten minutes and a trial shows it faster."""
    device: Device = "auto"
    """auto: cuda, mps or cpu, the first that this machine has."""
    precision: Precision = "auto"
    """auto: bf16 if the GPU has it, else fp16; fp32 on a CPU."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig(InferenceFlags, Paths):
    """A validated submission."""

    run_name: tuple[str, ...] = ("baseline",)
    """One or more runs; their probabilities are averaged with equal weights (see blend for fitted ones)."""
    folds: tuple[int, ...] | None = None
    """Folds to use; default: all that are trained."""
    tta: bool = True
    """Average over label-safe views, or the plain image only."""
    name: str | None = None
    """Name of the submission; default: the runs' names joined by +."""


@dataclass(frozen=True, kw_only=True)
class BlendConfig(InferenceFlags, Paths):
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
    """Of the outer folds."""


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(Paths):
    """What is about to be trained."""

    backbone: str = "tf_efficientnet_lite0"
    """Whose checkpoints need room on the disk."""
    num_folds: int = 5
    """How many folds' checkpoints."""
    image_size: tuple[int, int] | None = None
    """Height and width of the cache; default: the competition's."""


@dataclass(frozen=True, kw_only=True)
class SummaryConfig(Paths):
    """What a network costs."""

    backbone: str = "tf_efficientnet_lite0"
    """Any timm model, one under src/models/, or the path of a .py file of your own."""
    backbone_options: tuple[str, ...] = ()
    """The network's own options, such as batch_norm=False."""
    num_outputs: int | None = None
    """Classes of all heads together; default: the competition's."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels; default: the competition's."""


@dataclass(frozen=True, kw_only=True)
class MakeDemoConfig:
    """Numbers of images."""

    input_dir: Path = Path("input")
    """Where demo/ is written."""
    num_train: int = 3000
    """Training images."""
    num_val: int = 600
    """Images of the organiser's validation set."""
    num_test: int = 800
    """Test images."""
