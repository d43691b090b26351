"""Where --log writes to: TensorBoard's event files, Weights & Biases, MLflow. Each is imported only when asked for."""

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any, Literal

from src.training.logs import Row, Sink, Training, times_of, values_of


class TensorBoard:
    """fold<k>/tensorboard/: written anew by each command, with all rows so far, in place of the files before.

    purge_step tells a TensorBoard that is running to forget what it has read.
    """

    def __init__(self, training: Training) -> None:
        self.training, self.folder = training, training.folder / "tensorboard"
        self.writer: Any = None
        self.written = 0

    def write(self, rows: Sequence[Row]) -> None:
        old = []
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            old = list(self.folder.glob("events.out.tfevents.*"))
            self.writer = SummaryWriter(str(self.folder), purge_step=1)
            table = [f"| {name} | {value} |" for name, value in self.training.settings.items()]
            self.writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *table]), 1)
        for row, moment in list(zip(rows, times_of(rows), strict=True))[self.written :]:
            for name, value in values_of(row).items():
                self.writer.add_scalar(name, value, int(row["epoch"]), moment)
        self.writer.flush()
        self.written = len(rows)
        for file in old:
            file.unlink(missing_ok=True)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases per fold, in a group per run; offline if nobody is logged in.

    Online, the server says which epochs it has. An offline folder cannot be continued: each command writes one with all
    rows so far, in place of the one before.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.run: Any = None
        self.written = 0

    def write(self, rows: Sequence[Row]) -> None:
        if self.run is None:
            self._begin(self.training.id_of(rows))
        for row in rows:
            epoch = int(row["epoch"])
            if epoch > self.written:
                self.run.log({"epoch": epoch, **values_of(row)}, step=epoch, commit=True)
                self.written = epoch

    def _begin(self, name: str) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        mode: Literal["offline"] | None = None  # None: WANDB_MODE, or online
        if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False):
            mode = "offline"
            print(f"note: --log wandb: not logged in; send it later: wandb sync {self.training.folder}/wandb/offline-*")
        for old in self.training.folder.glob(f"wandb/offline-run-*-{name}"):
            shutil.rmtree(old, ignore_errors=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", self.training.competition),
            name=self.training.name,
            group=self.training.run,
            id=name,
            resume="allow",
            dir=str(self.training.folder),
            mode=mode,
            config=self.training.settings,
            settings=wandb.Settings(console="off", silent=True),
        )
        self.written = max(0, self.run.step - 1)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """A run of MLflow per fold, in an experiment per competition; in runs/mlflow.db unless MLFLOW_TRACKING_URI is set.

    The store says which metrics it has for which epoch: MLflow would keep a repeated one twice.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.client: Any = None
        self.run = ""
        self.held: set[tuple[str, int]] = set()

    def write(self, rows: Sequence[Row]) -> None:
        if self.client is None:
            self._begin(self.training.id_of(rows), rows[0])
        from mlflow.entities import Metric

        new = [
            Metric(name, value, int(1000 * moment), int(row["epoch"]))
            for row, moment in zip(rows, times_of(rows), strict=True)
            for name, value in values_of(row).items()
            if (name, int(row["epoch"])) not in self.held
        ]
        for start in range(0, len(new), 1000):  # more are refused at once
            self.client.log_batch(self.run, metrics=new[start : start + 1000])
        self.held |= {(metric.key, metric.step) for metric in new}

    def _begin(self, name: str, first: Row) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        store = f"sqlite:///{self.training.runs_dir.resolve() / 'mlflow.db'}"
        self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", store))
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", self.training.competition)
        experiment = self.client.get_experiment_by_name(title)
        number = experiment.experiment_id if experiment else self.client.create_experiment(title)
        found = self.client.search_runs([number], f"tags.`podium.training` = '{name}'")
        if found:
            self.run = found[0].info.run_id
            for key in values_of(first):
                self.held |= {(key, metric.step) for metric in self.client.get_metric_history(self.run, key)}
            self.client.set_terminated(self.run, "RUNNING")
            return
        tags = {"podium.training": name, "mlflow.runName": self.training.name}
        self.run = self.client.create_run(number, tags=tags).info.run_id
        settings = [Param(key, str(value)[:500]) for key, value in self.training.settings.items()]
        self.client.log_batch(self.run, params=settings)

    def close(self) -> None:
        self.client.set_terminated(self.run)


SINKS: dict[str, Callable[[Training], Sink]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def open_sinks(names: Sequence[str], training: Training) -> dict[str, Sink]:
    """Return the sinks by name."""
    return {name: SINKS[name](training) for name in dict.fromkeys(names)}
