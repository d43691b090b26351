"""How well predict --minutes keeps its time, and what still answers: python -m benchmarks.minutes --competition svhn

Runs predict once for each limit and repetition, without kept predictions, and prints a table; writes nothing but
submissions/<competition>/minutes.*. The run must be trained.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

from src.competitions.registry import load_competition
from src.config import Paths
from src.core import cli


@dataclass(frozen=True, kw_only=True)
class MinutesConfig(Paths):
    """Limits to try."""

    run_name: str = "baseline"
    """Name of the run."""
    limits: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    """Minutes."""
    repeat: int = 3
    """Times that each is tried."""


def main(config: MinutesConfig) -> None:
    """Print the table."""
    name = load_competition(config.competition).name
    print("| limit, min | took, s (each try) | folds | views | images not reached |\n|---|---|---|---|---|")
    for limit in config.limits:
        took, answered = [], set()
        for _ in range(config.repeat):
            for kept in (config.runs_dir / name / config.run_name).glob("fold*/test.npz"):
                kept.unlink()
            started = time.monotonic()
            command = [sys.executable, "-m", "src.predict", "--competition", config.competition, "--name", "minutes"]
            more = ["--run-name", config.run_name, "--minutes", str(limit)]
            subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            took.append(f"{time.monotonic() - started:.0f}")
            note = json.loads((config.submissions_dir / name / "minutes.json").read_text())["minutes"]
            answered.add((note["networks"][0], note["views"][0], note["images_not_reached"]))
        folds, views, unreached = (" or ".join(map(str, sorted(set(column)))) for column in zip(*answered, strict=True))
        print(f"| {limit:g} | {', '.join(took)} | {folds} | {views} | {unreached} |", flush=True)


if __name__ == "__main__":
    cli.run(main, MinutesConfig, __doc__)
