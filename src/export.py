"""Write a run's networks as one file, from images to probabilities, for use without this project.

    python -m src.export
    python -m src.export --competition demo --folds 0 --format both --quantize int8      (a minute on a CPU)

Writes runs/<competition>/<run>/export/: model.onnx, model_int8.onnx, model.pt2 (as asked), model.json (what they are)
and MODEL_CARD.md. A file is written only if it answers as predict does.
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
    from src.core.writing import sha256_of, write_bytes, write_json, write_text
    from src.exporting.card import model_card, summary_of
    from src.exporting.files import export, int8_bytes
    from src.exporting.quantized import measure
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
    folder = subject.run.folder / "export"
    oof = out_of_fold(subject.run, subject.numbers, config.tta)
    with locked(folder, "is exporting this run", wait=True):
        files = export(subject, folder, config.format, config.num_check)
        if config.quantize == "int8":
            small = int8_bytes((folder / "model.onnx").read_bytes(), len(subject.run.begun.model.mean))
            loss = measure(subject)
            write_bytes(folder / "model_int8.onnx", small)
            files["model_int8.onnx"] = {"bytes": len(small), **loss.describe()}
        described = {name: {**facts, "sha256": sha256_of(folder / name)} for name, facts in files.items()}
        note = {**subject.facts(), "files": described, "versions": versions()}
        write_json(folder / "model.json", note)
        write_text(folder / "MODEL_CARD.md", model_card(subject, oof, files))
    for name, facts in files.items():
        print(f"{name}: {facts['bytes'] / 1e6:.1f} MB, {summary_of(facts)}")
    print(f"exported: {folder}")
    return note


if __name__ == "__main__":
    cli.run(main, ExportConfig, __doc__)
