"""A network as an ONNX graph, run by ONNX Runtime: on a CPU often twice as fast as torch, which it agrees with to 1e-5.

Packages: requirements-export.txt. They are imported only when a graph is made or run.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from src.core.errors import InputError
from src.core.modules import check_extra, has_modules
from src.core.runtime import Compute

PACKAGES = ("onnx", "onnxruntime", "onnxscript", "onnx_ir")
CHUNK = 32  # images run at a time: their activations stay in a processor's cache
INPUT = "images"
MAX_BYTES = 2**31 - 2**24  # of weights in a file, which holds less than 2 GiB with its graph


def is_installed() -> bool:
    """Return whether graphs can be made and run here."""
    return has_modules(*PACKAGES)


def fits(compute: Compute) -> bool:
    """Return whether a graph replaces torch without a change of precision: on a CPU in fp32."""
    return compute.device.type == "cpu" and compute.dtype == torch.float32


def check_engine(engine: str, compute: Compute) -> None:
    """Raise InputError if --engine onnx is asked for where it cannot run."""
    if engine != "onnx":
        return
    check_extra("--engine onnx", "export", *PACKAGES)
    if not fits(compute):
        raise InputError(f"--engine onnx: runs on a CPU in fp32, not on {compute.describe()}; add --device cpu")
    if compute.world.size > 1:
        raise InputError("--engine onnx: runs in one process; leave torchrun out")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's exporter: its warnings are about its own code, its progress about its own steps."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _exporting(target: str) -> Iterator[None]:
    """Run torch's exporter. Raises InputError for what it raises: dozens of kinds, from a network's own code too."""
    try:
        with quiet(), torch.no_grad():
            yield
    except Exception as error:
        if "specialized it to be a constant" in str(error):
            raise InputError(
                "this network cannot be exported: its code fixes the number of images; write x.shape[0] for len(x)"
            ) from error
        raise InputError(
            f"this network cannot be exported {target} ({_first_line(error.__cause__ or error)})"
        ) from error


@contextlib.contextmanager
def running(what: str = "ONNX Runtime cannot run this network") -> Iterator[None]:
    """Use ONNX Runtime. Raises InputError for what it raises: its errors have only Exception in common."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{what} ({_first_line(error)})") from error


def exported_program(module: nn.Module, images: torch.Tensor) -> Any:
    """Return torch.export's program of a module, for any number of images like these (two or more, B, H, W, C).

    Raises InputError if torch cannot follow the module's code.
    """
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    with _exporting("by torch.export"):
        return torch.export.export(module.eval(), (images,), dynamic_shapes=shapes, strict=False)


def _adaptive_max_pool(images: torch.Tensor, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what adaptive_max_pool2d does, (B, C, *size), in operations that ONNX has; and no places of the maxima."""
    for axis, new in zip((-2, -1), size, strict=True):
        old, cells = images.shape[axis], np.arange(new)
        starts, ends = cells * old // new, -(-(cells + 1) * old // new)
        widest = (ends - starts).max()
        within = np.minimum(starts[:, None] + np.arange(widest), ends[:, None] - 1)  # narrow cells repeat their last
        index = torch.from_numpy(within.ravel()).to(images.device)
        images = images.index_select(axis, index).unflatten(axis, (new, int(widest))).amax(axis)
    return images, images.long()


def onnx_model(program: Any, outputs: Sequence[str]) -> Any:
    """Return the onnx.ModelProto of an exported program. Raises InputError if an operation has no ONNX counterpart.

    `outputs` name its outputs; inner values with the same name are renamed.
    """
    with _exporting("to ONNX"):
        from onnx_ir.passes.common import NameFixPass

        lacking = {torch.ops.aten.adaptive_max_pool2d.default: _adaptive_max_pool}
        made = torch.onnx.export(
            program.run_decompositions(lacking),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(outputs),
            verbose=False,
        )
        assert made is not None
        NameFixPass()(made.model)  # torch names the outputs without a look at the names within: "mean", "view", "cat"
        return made.model_proto


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def open_session(model: bytes | Path) -> Any:
    """Return an onnxruntime.InferenceSession on the CPU, with as many threads as torch has.

    Raises InputError for a graph that it cannot run, such as one with an operation that it lacks.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    source = model if isinstance(model, bytes) else str(model)
    with running():
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, images: np.ndarray) -> np.ndarray:
    """Return a session's outputs side by side, (N, num_outputs) float32, for images (N, H, W, C). Raises InputError."""
    with running():
        parts = [
            np.concatenate(session.run(None, {INPUT: images[start : start + CHUNK]}), axis=1)
            for start in range(0, len(images), CHUNK)
        ]
    return np.concatenate(parts)


def check_bytes(network: nn.Module, instead: str) -> None:
    """Raise InputError for more weights than one ONNX file can hold."""
    tensors = [*network.parameters(), *network.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size >= MAX_BYTES:
        raise InputError(f"the network's weights take {size / 1e9:.1f} GB, and an ONNX file holds 2; {instead}")


class OnnxForward:
    """A network's forward pass by ONNX Runtime; images of another size than the graph's are left to the network."""

    def __init__(self, network: nn.Module, images: torch.Tensor) -> None:
        """Make the graph for images like these, (B, H, W, C). Raises InputError if that fails."""
        check_bytes(network, "use --engine torch")
        self.network, self.shape = network, images.shape[1:]
        two = images[:1].expand(2, *self.shape).contiguous()
        self.session = open_session(onnx_model(exported_program(network, two), ["logits"]).SerializeToString())

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[1:] != self.shape:
            logits: torch.Tensor = self.network(images)
            return logits
        return torch.from_numpy(run_session(self.session, images.numpy()))
