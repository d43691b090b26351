"""Ray clusters, for commands with --engine ray."""

import os
import signal
import socket
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from src.core.errors import InputError
from src.core.signals import SIGNALS

SECONDS_TO_ANSWER = 15.0
CODE = str(Path(__file__).resolve().parents[2])  # where every node has this program


def python_path() -> str:
    """Return the PYTHONPATH of a process that runs this program from any folder."""
    return os.pathsep.join(filter(None, [CODE, os.environ.get("PYTHONPATH", "")]))


def check_address(engine: str, address: str | None) -> None:
    """Raise InputError for the address of a cluster that would not be used."""
    if address and engine != "ray":
        raise InputError(f"--address {address}: is of --engine ray; give that too, or leave this out")


def join_cluster(address: str | None) -> Any:
    """Return the module ray, connected to the cluster at HOST:PORT, or to one started on this machine.

    Without an address Ray itself would look for a cluster that ran here before, and wait for one that has died.
    Raises InputError if Ray is not installed, or no cluster of its version answers.
    """
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise InputError("--engine ray: Ray is not installed; pip install -r requirements-ray.txt") from error
    if ray.is_initialized():
        return ray
    if address:
        _check_answers(address)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        ray.init(address=address or "local", log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:  # no Ray there, or another version of it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{f'--address {address}' if address else '--engine ray'}: {reason}") from error
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray installs its own, which prints a dump
            for number, handler in handlers.items():
                if handler is not None:
                    signal.signal(number, handler)
    return ray


def _check_answers(address: str) -> None:
    """Raise InputError unless a Ray cluster answers at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local"):
        return
    if not host or not port.isdecimal():
        raise InputError(f"--address {address}: must be HOST:PORT, ray://HOST:PORT or auto")
    health = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
        if not address.startswith("ray://"):
            subprocess.run(health, check=True, capture_output=True, timeout=SECONDS_TO_ANSWER)
    except (OSError, OverflowError, subprocess.SubprocessError) as error:
        raise InputError(f"--address {address}: no Ray cluster answers there") from error


def num_cluster_cores(ray: Any) -> int:
    """Return how many cores the nodes of the cluster have that are alive."""
    return int(ray.cluster_resources().get("CPU", 0))
