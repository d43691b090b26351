"""Train one network per fold.

    python -m src.train --fold 0 --weights tf_efficientnet_lite0.safetensors
    python -m src.train --competition demo --backbone string_cnn --no-pretrained --epochs 2      (a minute on a CPU)

Writes runs/<competition>/<run>/run.json (settings and snapshot) and fold<k>/: fold.json, log.csv, last.pt (to resume
from), best.safetensors and last.safetensors, oof.npz (predictions for the held-out images). The same command resumes
after an interruption, makes damaged files again, and does nothing when all is done.
"""

from src.config import TrainConfig
from src.core import cli


def main(config: TrainConfig) -> None:
    """Train the folds that are asked for. Raises InputError for flags and files that do not fit."""
    import time
    from dataclasses import replace

    from src.competitions.registry import load_competition
    from src.core.runtime import choose_compute, explained, in_world, set_up_process
    from src.core.world import check_same
    from src.runs.ranks import check_run, check_shared, join_ranks
    from src.runs.record import training_summary
    from src.training.checks import check_flags, check_weights, without_effect
    from src.training.fold import train_fold
    from src.training.logs import check_logs
    from src.training.restart import publish
    from src.training.resume import run_to_train
    from src.training.status import Status

    started = time.perf_counter()
    set_up_process(config.deterministic)
    world = join_ranks(config, config.rank_timeout)
    check_shared(config.runs_dir, world)
    world.together(lambda: check_flags(config, load_competition(config.competition)))
    world.on_main(lambda: check_logs(config.log))
    run = run_to_train(config, world)
    check_run(run, world)
    world.together(lambda: check_weights(config, run.competition))
    numbers = run.prepared.fold_numbers(config.fold)
    compute = world.together(lambda: in_world(choose_compute(config.device, config.precision), world))
    check_same(world, {"device": compute.device.type, "precision": str(compute.dtype)})
    results, status = [], Status(numbers, config.epochs, compute.describe())
    with status.told(), explained(config.deterministic):
        print(f"training on {compute.describe()}", flush=True)
        for note in without_effect(config):
            print(note)
        if run.competition.pretext:
            print("note: the score means nothing here; the network is for train --weights FOLD/last.safetensors")
        for done in range(len(numbers)):
            run, result = train_fold(config, run, numbers[done:], compute, status=status)
            results.append(result)
    if run.staged:
        world.on_main(lambda: publish(run) and None)
        run = replace(run, staged=False)
    print(training_summary(results, time.perf_counter() - started, run.folder))


if __name__ == "__main__":
    cli.run(main, TrainConfig, __doc__)
