"""Flags of train and bench."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Literal

from src.config.augment import Augment
from src.config.paths import Device, PixelPaths, Precision

WITHOUT_LABELS = ("contrastive", "simsiam", "byol", "rotation", "masked")  # values of --loss


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The flags that decide what is trained. Saved in run.json; a run resumes only with the same ones."""

    backbone: str = "tf_efficientnet_lite0"
    """Any timm model, one under src/models/, or the path of a .py file of your own."""
    backbone_options: tuple[str, ...] = ()
    """The network's own options, such as batch_norm=False or num_points=1 for nin."""
    pretrained: bool = True
    """Start from timm's pretrained weights (downloaded from the hub once)."""
    weights: Path | None = None
    """Start from this file (.safetensors or .pth in timm's naming); nothing is downloaded."""
    start_from: str | None = None
    """Start from another run of this competition: fold k from the weights of its fold k."""
    image_size: tuple[int, int] | None = None
    """Height and width that the network sees; default: the cache's."""
    progressive_resize: float = 1.0
    """Share of the image size that training begins with; it grows evenly to 1 in the first 70% of epochs."""
    freeze_backbone: bool = False
    """Linear probe: train the last layer alone, on features computed once for all folds (no augmentation but flips)."""
    epochs: int = 24
    """Passes over the training images."""
    batch_size: int = 64
    """Images per optimizer step."""
    aug_repeats: int = 1
    """Copies of each image in a batch, each augmented differently (strings are joined and recombined alike); an epoch
    with N copies shows a share of 1/N of the images."""
    accumulate: int = 1
    """Micro-batches per optimizer step, each of batch_size / accumulate images; doubled automatically when memory runs
    out."""
    sync_batch_norm: bool = False
    """With torchrun: batch norm over the images of all ranks, instead of each rank's own."""
    lr: float = 2e-3
    """Peak learning rate."""
    optimizer: str = "adamw"
    """Any name that timm's create_optimizer_v2 knows."""
    weight_decay: float = 0.02
    """Weight decay of the optimizer; biases and normalisation are exempt."""
    momentum: float = 0.9
    """Momentum of SGD and its variants."""
    layer_decay: float | None = None
    """Factor on lr per layer below the head, such as 0.75."""
    schedule: Literal["onecycle", "cosine", "step", "constant"] = "onecycle"
    """onecycle: cosine warm-up, then cosine decay to 0; cosine: linear warm-up, then cosine decay to 0; step: linear
    warm-up, then a tenth after 60% and a hundredth after 85% of the steps; constant: linear warm-up only."""
    warmup: float = 0.2
    """Share of all steps in which lr rises from near 0."""
    loss: str = "cross_entropy"
    """A name in LOSSES of src/training/losses.py. contrastive, simsiam, byol, rotation and masked need no labels:
    they pretrain on NAME:instances."""
    sampler: Literal["uniform", "balanced", "sqrt"] = "uniform"
    """Which images an epoch draws. uniform: each once; balanced: all classes (of strings: first characters) equally
    often, with replacement; sqrt: in between."""
    class_weights: bool = False
    """Weight rare classes, and labels that are present, more in the loss: all classes get the same total weight. Not
    for strings."""
    head_weights: tuple[float, ...] = ()
    """Weight of each head in the loss; default: equal."""
    soft_labels: str | None = None
    """CSV with image_path and a probability per class, which replace the labels of the training images in it. Another
    run's out-of-fold predictions make the score optimistic: most of its networks have seen the held-out labels."""
    pseudo_labels: tuple[str, ...] = ()
    """Runs whose averaged answers label the test images for training; fold k learns from their folds k."""
    pseudo_confidence: float = 0.9
    """Smallest probability that an answer is right, by the teachers' out-of-fold scores, to become a pseudo-label."""
    synthetic: int = 0
    """Number of synthetic strings to draw and train on too: random characters on patches of the training images."""
    fonts: str | None = None
    """Folder with .ttf, .otf or .ttc files for --synthetic; default: the one font that Pillow brings."""
    suspects: str | None = None
    """CSV of images whose labels are suspected, such as evaluate's suspects.csv."""
    suspects_weight: float = 0.0
    """Their weight in the loss; 0 skips them. They are scored in any case."""
    length_head: float = 0.0
    """Loss weight of an auxiliary head, used only in training, that predicts a string's length; 0 is off."""
    box_head: float = 0.0
    """Loss weight of an auxiliary head, used only in training, that predicts where the string is; for competitions
    whose labels have boxes. 0 is off."""
    label_smoothing: float = 0.05
    """Share of the target spread over all classes."""
    dropout: float = 0.2
    """Dropout rate before the last layer, if the backbone supports it."""
    drop_path: float | None = None
    """Stochastic depth rate, if the backbone supports it."""
    mixup: float = 0.0
    """Alpha of mixup; 0 is off."""
    cutmix: float = 0.0
    """Alpha of CutMix; 0 is off; not for strings."""
    ema: float = 0.998
    """Decay per step of the weights' moving average, which is what is scored and kept; 0 is off."""
    sam: float = 0.0
    """Sharpness-aware minimization (SAM): its radius rho, such as 0.05; doubles the training time; 0 is off."""
    clip_grad: float | None = 5.0
    """Largest norm of the gradient."""
    augment: Augment = field(default_factory=Augment)
    views: tuple[str, ...] = ()
    """Views of test-time augmentation, besides the original; default: all that keep the label. auto: those that help
    out of fold, which evaluate and predict choose; smaller and larger show the network another size."""
    early_stopping: int | None = None
    """Stop after this many epochs without a better score. The score is then optimistic: it chose the epoch."""
    keep: Literal["last", "best"] = "last"
    """Whose weights make the out-of-fold predictions and the submission. best is optimistic for the same reason."""
    precision: Precision = "auto"
    """auto: bf16 if the GPU has it, else fp16; fp32 on a CPU. On one with AMX, bf16 was faster for resnet_cifar and
    slower for tf_efficientnet_lite0; bench tells."""
    compile: bool = False
    """torch.compile; pays back in long trainings."""
    deterministic: bool = False
    """Only algorithms that give the same bits each time (a GPU's fastest do not; a CPU's always do)."""
    seed: int = 0
    """Random seed for new layers, batches, augmentation and dropout."""

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the loss cannot be computed from a part of a batch."""
        return self.loss in ("contrastive", "simsiam", "byol")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainSettings, PixelPaths):
    """One network per fold."""

    ALIASES: ClassVar[dict[str, str]] = {"--log-to": "--log"}

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
    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Also send the rows of log.csv to these services as they are written; requirements-<name>.txt has the package.
    torchrun takes --log for one of its own flags: write --log-to there."""
    save_every: float = 10.0
    """Minutes between saves within an epoch; its end is saved too, and the current step on Ctrl-C or SIGTERM."""
    rank_timeout: float = 10.0
    """With torchrun: minutes after which a rank that waits for another one ends with an error."""
    resume: bool = False
    """Fail unless there is a checkpoint to resume from (without this flag, training resumes if there is one)."""
    restart: bool = False
    """Train anew; the old folds stay in use until the new ones are finished. Other settings need --fold all."""

    @property
    def settings(self) -> TrainSettings:
        """The part that decides what is trained."""
        return TrainSettings(**{item.name: getattr(self, item.name) for item in fields(TrainSettings)})


@dataclass(frozen=True, kw_only=True)
class BenchConfig(TrainConfig):
    """The flags of train, on synthetic images."""

    steps: int = 20
    """Steps that are timed, of each kind."""
