"""From the organiser's files to a validated submission within a time limit.

    python -m src.auto --competition svhn --minutes 60 --weights tf_efficientnet_lite0.safetensors
    python -m src.auto --competition demo --minutes 4 --no-pretrained                            (on a CPU)

Looks at the data, measures this machine, chooses network, image size, epochs and folds from a table of tested recipes
(src/planning/recipes.py), and runs prepare, train, evaluate and predict. It keeps to the time: the time left is checked
after each epoch and fold. The same command resumes a killed auto. Writes what the four commands write, and
runs/<competition>/<run-name>.json (what was chosen and why) and .sh (the four commands).
"""

from src.config import AutoConfig
from src.core import cli


def main(config: AutoConfig) -> None:
    """Make a submission. Raises InputError if the time is too short, and for what the four commands refuse."""
    import time

    started = time.monotonic()
    from src.planning.session import run_auto

    run_auto(config, started)


if __name__ == "__main__":
    cli.run(main, AutoConfig, __doc__)
