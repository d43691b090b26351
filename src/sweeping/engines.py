"""Where the tasks of a sweep run: in processes of this machine, or on a Ray cluster.

A task is a command. It is started again when it fails, perhaps on another node, and resumes from its checkpoint.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from src.config import SweepConfig
from src.core.cluster import join_cluster, python_path
from src.core.errors import MISTAKE, InputError
from src.core.machine import num_cores
from src.core.signals import stop
from src.sweeping.board import Board
from src.sweeping.plan import Task

TICK = 1.0  # seconds
SECONDS_TO_SAVE = 60.0  # that trainings on a cluster have when the sweep is stopped


@dataclass(frozen=True)
class Shell:
    """How a task's command is run: in this folder, with so many threads."""

    cwd: str
    threads: int

    def variables(self) -> dict[str, str]:
        """Return what a task's environment has besides this one's."""
        return {**dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads)), "PYTHONPATH": python_path()}

    def start(self, command: Sequence[str], gpu: str | None) -> "subprocess.Popen[str]":
        """Start a command of this Python, which sees one GPU if it is named."""
        seen = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.cwd,
            env={**os.environ, **self.variables(), **seen},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else ""


def visible_gpus() -> list[str]:
    """Return the GPUs of this machine that CUDA_VISIBLE_DEVICES leaves to this process, by the names it uses."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import torch

        return [str(index) for index in range(torch.cuda.device_count())]
    return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]


def gpu_slots(share: float, gpus: list[str]) -> list[str]:
    """Return a GPU for each training that can run at once, if each takes this share of one; GPUs take turns.

    Raises InputError without a GPU.
    """
    if not gpus:
        raise InputError(f"--gpus-per-task {share:g}: this machine has no GPU, or CUDA_VISIBLE_DEVICES hides it")
    return gpus * int(1 / share + 1e-9)


class _Trainings:
    """The processes of a sweep on this machine, as many at once as there are slots: a GPU each, or None for no GPU."""

    def __init__(self, config: SweepConfig, board: Board, slots: Sequence[str | None]) -> None:
        self.config, self.board = config, board
        self.shell = Shell(os.getcwd(), config.cores_per_task)
        self.free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for slot in slots:
            self.free.put(slot)
        self.running: set[subprocess.Popen[str]] = set()
        self.lock, self.stopped = threading.Lock(), threading.Event()

    def run(self, task: Task) -> int:
        """Train a task, again if it fails; return its exit code."""
        gpu = self.free.get()
        try:
            return self._attempts(task, gpu)
        finally:
            self.free.put(gpu)

    def _attempts(self, task: Task, gpu: str | None) -> int:
        for retries_left in range(self.config.retries, -1, -1):
            with self.lock:
                if self.stopped.is_set():
                    return 1
                process = self.shell.start(task.command(self.config.redo), gpu)
                self.running.add(process)
            output = self._followed(task, process)
            code = process.returncode
            line = _last_line(output) if code >= 0 else f"killed by signal {-code}"
            if code in (0, MISTAKE) or not retries_left:
                break
            if not self.stopped.is_set():
                self.board.retried(task, line)
        self.board.ended(task, code, line)
        return code

    def _followed(self, task: Task, process: "subprocess.Popen[str]") -> str:
        """Return what a process printed, once it has ended: only then is its slot free."""
        try:
            self.board.started(task)
            return process.communicate()[0]
        except BaseException:  # nothing can be printed any more
            process.terminate()
            process.communicate()
            raise
        finally:
            with self.lock:
                self.running.discard(process)

    def stop(self) -> None:
        """Start no further training, and end those that run; each saves its step."""
        self.stopped.set()
        with self.lock:
            for process in self.running:
                process.terminate()


def run_locally(tasks: list[Task], config: SweepConfig, board: Board) -> list[Task]:
    """Run tasks in as many processes as have their cores and GPUs; return those that failed. Raises InputError."""
    at_once = config.tasks or max(1, num_cores() // config.cores_per_task)
    slots: list[str | None] = [None] * at_once
    if config.gpus_per_task:
        slots = list(gpu_slots(config.gpus_per_task, visible_gpus())[:at_once])
    trainings = _Trainings(config, board, slots)
    with ThreadPoolExecutor(len(slots)) as pool:
        futures = {pool.submit(trainings.run, task): task for task in tasks}
        try:
            open_: set[Future[int]] = set(futures)
            while open_:
                done, open_ = wait(open_, TICK, FIRST_COMPLETED)
                for future in done:
                    future.result()
                board.tick()
        except BaseException:  # stopped, or nothing can be printed any more
            trainings.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return [task for future, task in futures.items() if future.result()]


def run_on_ray(tasks: list[Task], config: SweepConfig, board: Board) -> list[Task]:
    """Run tasks on a Ray cluster whose nodes share this folder; return those that failed. Raises InputError."""
    ray = join_cluster(config.address)
    shell = Shell(os.getcwd(), config.cores_per_task)
    variables = shell.variables()

    # The function uses nothing of this module, which a node's Python could not import before PYTHONPATH is set.
    @ray.remote(num_cpus=config.cores_per_task, num_gpus=config.gpus_per_task, max_retries=0)
    def run(command: list[str], cwd: str, variables: dict[str, str]) -> tuple[int, str]:
        import os
        import subprocess
        import sys

        environment = {**os.environ, **variables}
        training = subprocess.Popen(
            [sys.executable, *command], cwd=cwd, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output = None
        try:
            while output is None:
                try:
                    output, _ = training.communicate(timeout=1)
                except subprocess.TimeoutExpired:  # Ray can interrupt it only now and then
                    continue
        except BaseException:  # the sweep is stopped: the training saves its step
            training.terminate()
            training.communicate()
            raise
        return training.returncode, (output.strip().splitlines() or [""])[-1]

    def submit(task: Task) -> Any:
        return run.remote(task.command(config.redo), shell.cwd, variables)

    open_ = {submit(task): (task, config.retries) for task in tasks}
    try:
        with stop.deferring():  # Ray's own code does not bear an exception from a signal
            return _until_ended(ray, open_, submit, board)
    except BaseException:  # stopped, or nothing can be printed any more
        for reference in open_:
            ray.cancel(reference)
        ray.wait(list(open_), num_returns=len(open_), timeout=SECONDS_TO_SAVE)
        raise


def _until_ended(
    ray: Any, open_: dict[Any, tuple[Task, int]], submit: Callable[[Task], Any], board: Board
) -> list[Task]:
    """Wait for tasks on a cluster, by reference, with the retries left; return those that failed for good."""
    failed = []
    while open_:
        done, _ = ray.wait(list(open_), num_returns=1, timeout=TICK)
        stop.check()
        board.notice_starts()
        board.tick()
        for reference in done:
            task, retries_left = open_.pop(reference)
            board.started(task)
            try:
                code, line = ray.get(reference)
            except ray.exceptions.RayError as error:  # a lost node, a killed process
                code, line = 1, _last_line(str(error))
            if code not in (0, MISTAKE) and retries_left:
                board.retried(task, line)
                open_[submit(task)] = (task, retries_left - 1)
                continue
            board.ended(task, code, line)
            if code:
                failed.append(task)
    return failed


ENGINES: dict[str, Callable[[list[Task], SweepConfig, Board], list[Task]]] = {"local": run_locally, "ray": run_on_ray}
