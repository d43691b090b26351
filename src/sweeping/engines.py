"""Where the tasks of a sweep run: in processes of this machine, or on a Ray cluster.

A task is a command. It is started again when it fails, perhaps on another node, and resumes from its checkpoint.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from src.config import SweepConfig
from src.core.errors import InputError
from src.core.runtime import num_cores
from src.core.signals import Stopped
from src.sweeping.plan import Task

ROOT = Path(__file__).resolve().parents[2]
MISTAKE = 2  # exit code for bad input: trying again would not help


class Ended(NamedTuple):
    """How a task ended: its exit code, how often it was started, and its last line."""

    code: int
    attempts: int
    line: str


@dataclass(frozen=True)
class Shell:
    """How a task's command is run: in this folder, with so many threads."""

    cwd: str
    threads: int

    def variables(self) -> dict[str, str]:
        """Return what a task's environment has besides this one's."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        return {**dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads)), "PYTHONPATH": path}

    def start(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        """Start a command of this Python."""
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.cwd,
            env={**os.environ, **self.variables()},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else ""


Report = Callable[[Task, Ended], None]


def run_locally(tasks: list[Task], config: SweepConfig, report: Report) -> None:
    """Run tasks in as many processes as have their cores; report each as it ends."""
    shell = Shell(os.getcwd(), config.cores_per_task)
    at_once = config.tasks or max(1, num_cores() // config.cores_per_task)
    running: set[subprocess.Popen[str]] = set()
    lock, stopped = threading.Lock(), threading.Event()

    def run(task: Task) -> Ended:
        attempts = 0
        while True:
            attempts += 1
            with lock:
                if stopped.is_set():
                    return Ended(1, attempts, "stopped")
                process = shell.start(task.command(config.redo))
                running.add(process)
            output, _ = process.communicate()
            running.discard(process)
            if process.returncode in (0, MISTAKE) or attempts > config.retries:
                return Ended(process.returncode, attempts, _last_line(output))

    with ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(run, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                report(futures[future], future.result())
        except (Stopped, KeyboardInterrupt):
            stopped.set()
            with lock:
                for process in running:
                    process.terminate()  # each saves its step
            pool.shutdown(cancel_futures=True)
            raise


def run_on_ray(tasks: list[Task], config: SweepConfig, report: Report) -> None:
    """Run tasks on a Ray cluster whose nodes share this folder; report each as it ends. Raises InputError."""
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise InputError("--engine ray: Ray is not installed; pip install -r requirements-ray.txt") from error
    if not ray.is_initialized():
        try:
            ray.init(address=config.address, log_to_driver=False, include_dashboard=False)
        except ConnectionError as error:
            raise InputError(f"--address {config.address}: no Ray cluster answers there") from error
    shell = Shell(os.getcwd(), config.cores_per_task)
    variables = shell.variables()

    # A lost node or a killed process is tried again by Ray; a mistake, exit code 2, is not. The function uses nothing
    # of this module, which a node's Python could not import before PYTHONPATH is set.
    @ray.remote(
        num_cpus=config.cores_per_task,
        num_gpus=config.gpus_per_task,
        max_retries=config.retries,
        retry_exceptions=[ChildProcessError],
    )
    def run(command: list[str], cwd: str, variables: dict[str, str]) -> tuple[int, str]:
        import os
        import subprocess
        import sys

        environment = {**os.environ, **variables}
        ended = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, text=True, capture_output=True)
        lines = (ended.stdout + ended.stderr).strip().splitlines() or [""]
        if ended.returncode not in (0, 2):
            raise ChildProcessError(lines[-1])
        return ended.returncode, lines[-1]

    waiting: dict[Any, Task] = {run.remote(task.command(config.redo), shell.cwd, variables): task for task in tasks}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        task = waiting.pop(done)
        try:
            code, line = ray.get(done)
            ended = Ended(code, 1, line)
        except (ChildProcessError, ray.exceptions.RayError) as error:
            ended = Ended(1, config.retries + 1, _last_line(str(error)))
        report(task, ended)


ENGINES: dict[str, Callable[[list[Task], SweepConfig, Report], None]] = {"local": run_locally, "ray": run_on_ray}
