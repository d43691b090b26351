"""Write a run's networks as one file, from images to probabilities, for use without this project.

    python -m src.export
    python -m src.export --competition demo --folds 0 --format both --quantize int8      (a minute on a CPU)

Writes runs/<competition>/<run>/export/: model.onnx, model_int8.onnx, model.pt2 (as asked), model.json (what they are)
and MODEL_CARD.md. They replace an earlier export at the end; model.onnx and model.pt2 answer as predict does.
"""

from typing import Any

from src.config import ExportConfig
from src.core import cli
from src.core.flags import check_range


def main(config: ExportConfig) -> dict[str, Any]:
    """Export a run and return what model.json holds. Raises InputError for runs and networks that cannot be."""
    from src.core.errors import InputError
    from src.core.locking import locked
    from src.core.modules import check_extra
    from src.core.runtime import set_up_process
    from src.exporting.card import model_card, summary_of
    from src.exporting.files import check_of, make_files, write_files
    from src.exporting.quantized import in_8_bits
    from src.exporting.subject import open_subject
    from src.inference.ensemble import out_of_fold
    from src.inference.onnx_runtime import PACKAGES
    from src.runs.run import open_run
    from src.runs.versions import versions

    check_range("num-check", config.num_check, 1)
    if config.format == "torch" and config.quantize != "none":
        raise InputError(f"--quantize {config.quantize}: applies to ONNX files; add --format onnx or both")
    if config.format != "torch":
        check_extra(f"--format {config.format}", "export", *PACKAGES)
    set_up_process()
    subject = open_subject(open_run(config, config.run_name), config.folds, config.tta)
    folder = subject.run.paths.export
    oof = out_of_fold(subject.run, subject.numbers, config.tta)
    with locked(folder, "is exporting this run", wait=True):
        check = check_of(subject, config.num_check)
        made = make_files(subject, config.format, check)
        if config.quantize == "int8":
            made["model_int8.onnx"] = in_8_bits(subject, made["model.onnx"].data, check)
        files = {name: file.describe() for name, file in made.items()}
        note = {**subject.facts(), "files": files, "versions": versions()}
        write_files(folder, made, note, model_card(subject, oof, files))
    for name, facts in files.items():
        print(f"{name}: {facts['bytes'] / 1e6:.1f} MB, {summary_of(facts)}")
    print(f"exported: {folder}")
    return note


if __name__ == "__main__":
    cli.run(main, ExportConfig, __doc__)
