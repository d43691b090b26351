"""The training of one fold from top to bottom, made of Podium's own parts: read this first, then src/training/.

    python -m src.make_demo && python -m src.prepare --competition demo --num-folds 2
    python -m examples.one_fold --competition demo --backbone string_cnn --no-pretrained --epochs 2

Prints the score that `python -m src.train --fold 0` reaches with the same flags; writes nothing. src.train adds what
a long training needs: resume, logs, checkpoints, skipped steps, mixed precision, micro-batches, mixup, a GPU's cache.
"""

import numpy as np
import torch
from torch import nn

from src.config import TrainConfig
from src.core import cli
from src.core.runtime import choose_compute, set_up_process, to_device
from src.data.prepared import open_prepared
from src.inference.predictor import Predictor
from src.training.checks import check_flags
from src.training.loading import make_loader
from src.training.losses import loss_of
from src.training.schedule import lr_factor
from src.training.served import Served
from src.training.setup import make_network, make_state


def main(config: TrainConfig) -> float:
    """Train fold 0 (or --fold) on the CPU in fp32 and return its score on the held-out images."""
    set_up_process()
    compute = choose_compute("cpu", "fp32")
    prepared = open_prepared(config)
    competition = prepared.competition
    check_flags(config, competition)

    # 1. Images and labels: which rows of the cache are trained on and which are held out.
    fold = prepared.fold_numbers("0" if config.fold == "all" else config.fold)[0]
    table = prepared.labels.merge(prepared.folds, on="image_path", validate="one_to_one")
    is_val = (table["fold"] == fold).fillna(False).astype(bool)
    cache = prepared.cache("train")
    size = config.image_size or cache.image_size
    train, val = (
        make_loader(
            config, competition, compute,
            Served(
                cache.images, cache.rows_of(part["image_path"].tolist()),
                part[competition.targets].to_numpy(competition.target_type), cache.numbers,
            ),
            size, train=learned,
        )
        for part, learned in ((table[~is_val], True), (table[is_val], False))
    )  # fmt: skip

    # 2. The network, its optimizer, and the moving average of its weights, which is what is scored.
    network = to_device(make_network(config, competition, size, resumed=False), compute)
    state = make_state(config, network, compute)
    optimizer, average = state.optimizer, state.ema
    predictor = Predictor(competition=competition, compute=compute, tta=False)

    # 3. Epochs of steps. Batches are uint8 (B, H, W, 3), already augmented; the network normalises them itself.
    step, num_steps = 0, config.epochs * len(train)
    for epoch in range(config.epochs):
        network.train()
        losses = []
        for batch in train.epoch(epoch):
            torch.manual_seed(config.seed * 1_000_003 + step)  # of dropout: a resumed step draws the same
            for group in optimizer.param_groups:
                factor = lr_factor(config.schedule, step / num_steps, config.warmup)
                group["lr"] = config.lr * factor * group.get("lr_scale", 1.0)
            logits = network(batch["image"])  # (B, num_outputs): all heads side by side
            loss = loss_of(logits, batch["target"], competition.layout, config.loss, config.label_smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_grad or float("inf"))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if average:
                average.update(network, step=step)
            losses.append(loss.item())

        # 4. The score, by the metric of the competition.
        score = predictor.score(state.scored, val)
        print(f"fold {fold} epoch {epoch + 1}/{config.epochs}: loss {np.mean(losses):.3f}, score {score:.4f}")
    return score


if __name__ == "__main__":
    cli.run(main, TrainConfig, __doc__)
