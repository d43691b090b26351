"""Several processes that torchrun starts, on a tiny competition."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file as read_weights

ROOT = Path(__file__).resolve().parents[1]
# A network without batch statistics. FAULT names what is to go wrong, once or always, and in which rank.
NETWORK = """
import os

import torch
from timm.models import register_model
from torch import nn

FAULT, _, RANK = os.environ.get("FAULT", "").partition(" ")
AFFECTED = RANK in ("", os.environ.get("RANK", "0"))


class Plain(nn.Sequential):
    steps = 0

    def forward(self, images):
        logits = super().forward(images)
        if AFFECTED and self.training:
            Plain.steps += 1
            if FAULT == "memory" and len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            if FAULT == "nan" and Plain.steps in (3, 4):
                return logits * float("nan")
            if FAULT == "kill" and Plain.steps == 5:
                os.kill(os.getpid(), 9)
            if FAULT == "stall" and Plain.steps == 5:
                os.kill(os.getpid(), 19)
        return logits


@register_model
def plain(pretrained=False, **kwargs):
    body = [nn.Conv2d(kwargs["in_chans"], 16, 5, stride=4), nn.GELU(), nn.Conv2d(16, 32, 3, stride=2), nn.GELU()]
    network = Plain(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(kwargs["drop_rate"]))
    network.add_module("head", nn.Linear(32, kwargs["num_classes"]))
    return network
"""
FLAGS = ("--backbone", "plain.py", "--no-pretrained", "--image-size", "32", "48", "--batch-size", "8", "--fold", "0",
         "--epochs", "13", "--mixup", "0.2", "--lr", "0.003")  # 4 steps an epoch, 52 in all  # fmt: skip


def environment(fault: str = "") -> dict[str, str]:
    """Return the environment of a process on one thread, in whose network something goes wrong."""
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "FAULT": fault}
    return {**os.environ, **own}


def start(
    cwd: Path, ranks: int, *flags: str, launch: tuple[str, ...] = (), command: str = "train", fault: str = ""
) -> "subprocess.Popen[str]":
    """Start torchrun with its own flags `launch`, or one process."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), *(launch or ("--standalone",))]
    arguments = [sys.executable, *(torchrun if ranks > 1 or launch else []), "-m", f"src.{command}", *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, cwd=cwd, env=environment(fault), text=True, stdout=pipe, stderr=pipe)


def train(cwd: Path, ranks: int, *flags: str, command: str = "train", fault: str = "") -> str:
    """Run a command to the end; return what was printed."""
    process = start(cwd, ranks, *flags, command=command, fault=fault)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-3000:]
    return out


def weights(cwd: Path, name: str) -> dict[str, torch.Tensor]:
    return read_weights(cwd / "runs" / "svhn" / name / "fold0" / "last.safetensors")


def difference(cwd: Path, one: str, other: str) -> float:
    """Return the greatest difference between the weights of two runs."""
    ours, theirs = weights(cwd, one), weights(cwd, other)
    return max((ours[name].double() - theirs[name].double()).abs().max().item() for name in ours)
