"""Flags of sweep."""

from dataclasses import dataclass
from typing import Literal

from src.config.paths import Paths


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Paths):
    """Many trainings: every combination of settings, or one change at a time, with every seed on every fold."""

    run_name: str = "sweep"
    """Beginning of the runs' names; each run's own settings follow."""
    set: tuple[str, ...] = ()
    """Flags of train and their values, such as epochs=12 lr=1e-3,2e-3 augment.rotate=0,10; several values make several
    runs. Use the value default to omit a flag, as in pseudo-labels=default,baseline; a teacher must have been
    trained."""
    one_at_a_time: bool = False
    """The first values of all flags are the base; each further value is tried alone, and compared with the base."""
    seed: tuple[int, ...] = (0,)
    """Each combination is trained with each of these."""
    fold: str = "all"
    """A fold's number, or all."""
    engine: Literal["local", "ray"] = "local"
    """local: processes on this machine; ray: tasks of a Ray cluster (requirements-ray.txt) that shares this folder."""
    address: str | None = None
    """Address of the Ray cluster; default: one is started on this machine."""
    tasks: int | None = None
    """Trainings at once on this machine; default: as many as have their cores."""
    cores_per_task: int = 1
    """Cores of a training."""
    gpus_per_task: float = 0.0
    """GPU of a training: 1, or a fraction to let several share one; 0: not assigned."""
    retries: int = 3
    """How often a training that failed is resumed."""
    redo: bool = False
    """Pass --restart to every training."""
