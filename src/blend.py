"""Combine runs with weights fitted on their out-of-fold predictions, and measure the gain by cross-validation.

    python -m src.blend --run-name baseline resnet
    python -m src.blend --run-name baseline resnet --stack           (a model judges which run is right)
    python -m src.blend --run-name baseline --external ocr.npz       (another tool's predictions)
    python -m src.blend --competition demo --run-name baseline wide --name both      (seconds on a CPU)

Writes submissions/<competition>/<name>.csv, .json and .npz. All runs must have been scored on the same images and be
trained to their end; test predictions that `predict` made with the same flags are used again.
"""

from typing import TYPE_CHECKING

from src.config import BlendConfig
from src.core import cli
from src.core.errors import InputError
from src.core.flags import check_name, check_range

if TYPE_CHECKING:
    from src.inference.blending import Blend
    from src.inference.external import External
    from src.inference.predictor import Predictor
    from src.inference.submission import Answer
    from src.inference.testset import TestSet
    from src.runs.run import Run


def main(config: BlendConfig) -> None:
    """Blend runs, and files of another tool. Raises InputError if there are fewer than two, or they were scored on
    different images."""
    from src.core.runtime import set_up_process
    from src.handin.checked import promise
    from src.inference.adjusting import adjusted, check_adjusting
    from src.inference.blending import fit
    from src.inference.ensemble import check_same_images, out_of_fold
    from src.inference.external import external_out_of_fold, read_external
    from src.inference.quality import check_one_image_each
    from src.inference.stacking import check_stackable
    from src.inference.submission import averaged, make_predictor, same_classes, write_submission
    from src.inference.testset import open_test_set
    from src.metrics import direction
    from src.runs.ranks import join_ranks
    from src.runs.run import open_run

    set_up_process()
    world = join_ranks(config)
    world.together(lambda: _check_flags(config))
    runs = world.together(lambda: [open_run(config, name) for name in config.run_name])
    competition = world.together(lambda: same_classes(runs))
    world.together(lambda: check_adjusting(config, runs[0].prepared))
    if config.stack:
        world.together(lambda: check_stackable(competition))
    predictor = world.together(lambda: make_predictor(config, competition, world))
    oofs = world.together(lambda: [out_of_fold(run) for run in runs])
    world.together(lambda: check_same_images(list(config.run_name), oofs))
    others = world.together(lambda: [read_external(path, competition) for path in config.external])
    oofs += world.together(lambda: [external_out_of_fold(other, oofs[0]) for other in others])
    names = [*config.run_name, *(path.name for path in config.external)]
    for name, oof in zip(names, oofs, strict=True):
        print(f"{name}: {oof.score:.4f} out of fold")
    if config.stack:
        world.together(lambda: check_one_image_each("--stack", oofs[0].labels))
    blend = fit(oofs, config)
    _tell(blend, names, f"{config.outer_folds}-fold", direction(competition))
    test = world.on_main(lambda: open_test_set(runs[0].prepared))
    answers, stack = _answers(blend, runs, others, test, predictor), blend.stack
    folder = config.submissions_dir / competition.name
    optimistic = [name for name, oof in zip(names, oofs, strict=True) if oof.optimistic]
    if optimistic:
        chosen = ", ".join(optimistic)
        print(f"note: the epochs of {chosen} were chosen on these very images; all scores are optimistic")
    facts = {"predicted": predictor.describe(), "blend": blend.describe() | {"optimistic": optimistic}}
    made = stack([one.probabilities for one in answers], competition) if stack else averaged(answers)
    if config.is_adjusting:
        made, facts["adjusted"] = adjusted(config, made, blend.oof, oofs[0])
    world.on_main(lambda: write_submission(folder, config.name, answers, test, competition, facts, blend.rule, made))
    world.on_main(lambda: promise(config, folder / f"{config.name}.json"))


def _answers(
    blend: "Blend", runs: "list[Run]", others: "list[External]", test: "TestSet", predictor: "Predictor"
) -> "list[Answer]":
    """Return the test predictions of all runs and files that have a weight; a stack needs them all."""
    from src.inference.external import external_answer
    from src.inference.submission import answer

    weights = [float(weight) for weight in blend.weights]
    used = [(run, weight) for run, weight in zip(runs, weights, strict=False) if weight or blend.stack]
    answers = [
        answer(run, None, test, predictor, weight, runs_after)
        for runs_after, (run, weight) in zip(reversed(range(len(used))), used, strict=True)
    ]
    return answers + [
        external_answer(other, test.image_paths, weight)
        for other, weight in zip(others, weights[len(runs) :], strict=True)
        if weight or blend.stack
    ]


def _tell(blend: "Blend", names: list[str], outer: str, note: str) -> None:
    """Print the weights and what they gain; `note` says whether less is better."""
    for name, weight in zip(names, blend.weights, strict=True):
        print(f"weight {weight:.3f}  {name}")
    print(f"on the images the weights were fitted on: {blend.fitted_score:.4f}")
    mean = f"weighted mean {blend.cross_validated_mean:.4f}, " if blend.stack else ""
    print(
        f"by {outer} outer cross-validation: {blend.cross_validated_score:.4f}, {mean}best single run "
        f"{blend.cross_validated_best_single:.4f}{note}"
    )


def _check_flags(config: BlendConfig) -> None:
    check_name("name", config.name)
    check_range("rounds", config.rounds, 1)
    check_range("seed", config.seed, 0)
    check_range("outer-folds", config.outer_folds, 2)
    names = [*config.run_name, *map(str, config.external)]
    if not config.run_name or len(set(names)) < 2 or len(set(names)) != len(names):
        given = " ".join(config.run_name)
        raise InputError(f"--run-name {given}: name two or more different runs, or one and --external FILE.npz")


if __name__ == "__main__":
    cli.run(main, BlendConfig, __doc__)
