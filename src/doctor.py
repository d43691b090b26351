"""Check a machine and a competition's files before money is spent; say what to do about each thing that is wrong.

    python -m src.doctor
    python -m src.doctor --competition food11 --backbone resnet18 --num-folds 5
    python -m src.doctor --deep

Decodes no image and leaves no file behind. Exit code 0 if all is well, 1 if something would stop a training.
"""

import sys

from src.config import DoctorConfig
from src.core import cli


def main(config: DoctorConfig) -> None:
    """Print the findings. Raises SystemExit(1) if something would stop a training, InputError for unknown names."""
    from src.checkup.findings import findings
    from src.checkup.integrity import check_integrity
    from src.competitions.registry import load_competition
    from src.core.flags import check_range, flags_of
    from src.data.prepared import command, prepared_folder

    check_range("num-folds", config.num_folds, 1, 10_000_000)
    bad = 0
    for finding in [*findings(config), *check_integrity(config)] if config.deep else findings(config):
        bad += finding.kind == "bad"
        print(f"{finding.kind:4}  {finding.text}", flush=True)
    if bad:
        print(f"problems to fix: {bad}; the lines that begin with bad say how")
        sys.exit(1)
    is_prepared = (prepared_folder(config, load_competition(config.competition)) / "current.json").exists()
    print(f"ready: {command(config, 'train' if is_prepared else 'prepare', flags_of(config, 'image_size'))}")


if __name__ == "__main__":
    cli.run(main, DoctorConfig, __doc__)
