"""The same images served by our remote cache, litdata, MosaicML streaming and WebDataset, from an S3 server.

    pip install --target DIR litdata==0.2.76 mosaicml-streaming==0.13.0 webdataset==1.0.2
    python -m benchmarks.streaming --packages DIR             # s3rver; about ten minutes

Random uint8 images of 64x128, shuffled, batches of 64, one process, no workers, no augmentation. Each epoch runs in a
process of its own: cold, with nothing on this machine (WebDataset keeps nothing), then warm, in turn (A B A B). "mib"
is the process's peak of anonymous memory above what it had with its packages imported, "processor" its µs per image,
"wrong" how many batches held a wrong image. "resumes": an epoch is left after --stop batches, and a new process that
continues from the saved state serves exactly the images that an epoch that was not stopped serves, in their order.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.limited import SIZE
from benchmarks.measuring import anonymous_bytes, processor
from benchmarks.servers import BUCKET, Server, serving
from src.core import cli
from src.core.errors import InputError
from src.data.in_blocks import WINDOW
from src.data.pixels import rows_per_block

BATCH, SHARD = 64, 64 << 20
LIMIT = 300  # seconds for a task
SHAPE = (*SIZE, 3)
MIXED = WINDOW * rows_per_block(SIZE)  # images that WebDataset mixes: as many as our window holds


@dataclass(frozen=True, kw_only=True)
class StreamingConfig:
    """How much to read."""

    packages: Path = Path()
    """Where litdata, mosaicml-streaming and webdataset are installed."""
    count: int = 16_384
    rounds: int = 2
    stop: int = 100
    """Batches before an epoch is left."""
    only: tuple[str, ...] = ("ours", "litdata", "mosaic", "webdataset")
    task: str = ""
    """Used by the script itself, as are the next ones."""
    folder: Path = Path()
    plain: str = ""


class Served(NamedTuple):
    """An epoch: batches of (rows, images), and a function that returns the state to resume from."""

    batches: Iterator[tuple[np.ndarray, np.ndarray]]
    state: Callable[[], dict[str, Any]]


def _image(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, SHAPE, dtype=np.uint8)


def _item(row: int) -> dict[str, Any]:
    return {"row": row, "image": _image(row)}


def write(name: str, folder: Path, count: int) -> None:
    """Write the images in a package's own format."""
    folder.mkdir()
    if name == "ours":
        images = np.stack([_image(row) for row in range(count)])
        np.save(folder / "cache.npy", images)
        hashes = import_module("src.data.pixels").hash_blocks(images)
        (folder.parent / "hashes.txt").write_text("\n".join(hashes))
    elif name == "litdata":
        rows = list(range(count))
        import_module("litdata").optimize(_item, rows, str(folder), chunk_bytes=SHARD, num_workers=1)
    elif name == "mosaic":
        columns = {"row": "int", "image": f"ndarray:uint8:{','.join(map(str, SHAPE))}"}
        with import_module("streaming").MDSWriter(
            out=str(folder), columns=columns, size_limit=SHARD, hashes=["xxh64"]
        ) as writer:
            for row in range(count):
                writer.write(_item(row))
    else:
        pattern = str(folder / "%06d.tar")
        with import_module("webdataset").ShardWriter(pattern, maxsize=SHARD, verbose=0) as writer:
            for row in range(count):
                writer.write({"__key__": f"{row:07d}", "bin": _image(row).tobytes()})


def ours(config: StreamingConfig, epoch: int, state: dict[str, Any]) -> Served:
    """Return an epoch of our loader."""
    remote, loading = import_module("src.data.remote"), import_module("src.data.loader")
    where = remote.Remote(url=f"s3://{BUCKET}/ours", folder=config.folder / "kept-ours", limit=1 << 40)
    hashes = (config.folder / "hashes.txt").read_text().split()
    rows = np.arange(config.count)
    loader = loading.Loader(
        images=where.open("cache", (config.count, *SHAPE), hashes), rows=rows, targets=rows[:, None], image_size=SIZE,
        batch_size=BATCH, policy=import_module("src.config").NO_AUGMENT, in_blocks=True,
    )  # fmt: skip
    done = state.get("done", 0)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal done
        for batch in loader.epoch(epoch, done):
            done += 1
            yield batch["index"].numpy(), batch["image"].numpy()

    return Served(batches(), lambda: {"done": done})


def _loaded(loader: Any, state: dict[str, Any]) -> Served:
    """Return an epoch of a loader with state_dict and load_state_dict."""
    if state:
        loader.load_state_dict(state)
    return Served(((batch["row"].numpy(), batch["image"].numpy()) for batch in loader), lambda: loader.state_dict())


def litdata(config: StreamingConfig, epoch: int, state: dict[str, Any]) -> Served:
    """Return an epoch of litdata."""
    module = import_module("litdata")
    # Of its two S3 clients, obstore refuses a server without TLS; the other one is boto3.
    downloader: Any = import_module("litdata.streaming.downloader")
    downloader._OBSTORE_AVAILABLE = False
    kept = config.folder / "kept-litdata"
    kept.mkdir(exist_ok=True)
    dataset = module.StreamingDataset(
        f"s3://{BUCKET}/litdata", cache_dir=str(kept), shuffle=True, drop_last=True, seed=epoch, max_cache_size="100GB"
    )
    return _loaded(module.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=0), state)


def mosaic(config: StreamingConfig, epoch: int, state: dict[str, Any]) -> Served:
    """Return an epoch of MosaicML streaming."""
    module = import_module("streaming")
    module.base.util.clean_stale_shared_memory()
    dataset = module.StreamingDataset(
        remote=f"s3://{BUCKET}/mosaic", local=str(config.folder / "kept-mosaic"), shuffle=True, shuffle_seed=epoch,
        batch_size=BATCH, validate_hash="xxh64", num_canonical_nodes=1,
    )  # fmt: skip
    return _loaded(module.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=0, drop_last=True), state)


def webdataset(config: StreamingConfig, epoch: int, state: dict[str, Any]) -> Served:
    """Return an epoch of WebDataset, which has no state: it is read again up to where it was left."""
    module = import_module("webdataset")
    shards = json.loads((config.folder / "shards.json").read_text())
    urls = [f"pipe:curl -s -f {config.plain}/webdataset/{name}" for name in shards]
    samples = module.WebDataset(urls, shardshuffle=len(urls), seed=epoch).shuffle(MIXED, initial=MIXED)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rows, images = [], []
        for sample in samples:
            rows.append(int(sample["__key__"]))
            images.append(np.frombuffer(sample["bin"], np.uint8).reshape(SHAPE))
            if len(rows) == BATCH:
                yield np.array(rows), np.stack(images)
                rows, images = [], []

    return Served(batches(), dict)


WAYS: dict[str, Callable[[StreamingConfig, int, dict[str, Any]], Served]] = {
    "ours": ours, "litdata": litdata, "mosaic": mosaic, "webdataset": webdataset,
}  # fmt: skip


def _epoch(config: StreamingConfig, name: str) -> dict[str, Any]:
    """Serve an epoch; return images/s and the memory it took."""
    for module in {"ours": ("src.data.loader", "s3fs"), "mosaic": ("streaming",)}.get(name, (name,)):
        import_module(module)
    before, peak, done = anonymous_bytes() // 2**20, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, anonymous_bytes() // 2**20)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started, used, count, wrong = time.perf_counter(), time.process_time(), 0, 0
    for rows, images in WAYS[name](config, 0, {}).batches:
        count += len(rows)
        wrong += not np.array_equal(images[0], _image(int(rows[0])))
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return {"rate": count / seconds, "mib": peak - before, "wrong": wrong,
            "processor": 1e6 * (time.process_time() - used) / count}  # fmt: skip


def _order(config: StreamingConfig, name: str, part: str) -> dict[str, Any]:
    """Serve the rows of epoch 1: all; up to --stop batches; or the rest, from the state that was saved there."""
    file = config.folder / f"state-{name}.json"
    served = WAYS[name](config, 1, json.loads(file.read_text()) if part == "rest" else {})
    rows: list[int] = []
    for number, (found, _) in enumerate(served.batches, start=1):
        rows += found.tolist()
        if part == "first" and number == config.stop:
            file.write_text(json.dumps(served.state(), default=str))
            break
    return {"rows": rows}


def _run(config: StreamingConfig, task: str, folder: Path, server: Server) -> dict[str, Any] | str:
    """Run a task in a process of its own; return what it found, or the last line of its error."""
    name = task.split(" ")[0]
    paths = [str(config.packages), os.getcwd()] if name != "ours" else [os.getcwd()]
    endpoint = server.environment["AWS_ENDPOINT_URL"]  # as MosaicML's and litdata's clients want it
    variables = {"PYTHONPATH": os.pathsep.join(paths), "S3_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
    flags = ["--task", task, "--folder", str(folder), "--plain", server.plain]
    flags += ["--count", str(config.count), "--stop", str(config.stop)]
    command = [sys.executable, "-m", "benchmarks.streaming", *flags]
    environment = {**os.environ, **server.environment, **variables}
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return f"still running after {LIMIT} s"
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or ["?"])[-1]
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _resumes(config: StreamingConfig, name: str, folder: Path, server: Server) -> str:
    parts = [_run(config, f"{name} {part}", folder, server) for part in ("all", "first", "rest")]
    for part in parts:
        if isinstance(part, str):
            return part
    whole, first, rest = (part["rows"] for part in parts)  # type: ignore[index]
    if whole[: len(first)] != first:
        return "no: the same epoch comes in another order"
    return "yes" if whole[len(first) :] == rest else f"no: {len(rest)} images instead of {len(whole) - len(first)}"


def main(config: StreamingConfig) -> None:
    """Print a line per measurement."""
    name, _, part = config.task.partition(" ")
    if part == "write":
        write(name, config.folder / name, config.count)
        print("{}")
    elif part:
        print(json.dumps(_epoch(config, name) if part == "epoch" else _order(config, name, part)))
    if config.task:
        return
    print(f"{processor()}; {config.count:,} images of {SIZE[0]}x{SIZE[1]}", flush=True)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        nowhere = Server("", "", {"AWS_ENDPOINT_URL": ""})
        for name in config.only:
            written = _run(config, f"{name} write", folder, nowhere)
            if isinstance(written, str):
                raise InputError(f"{name}: {written}")
        (folder / "shards.json").write_text(json.dumps(sorted(path.name for path in folder.glob("webdataset/*.tar"))))
        with serving("s3rver", *(folder / name for name in config.only)) as server:
            for _ in range(config.rounds):
                for name in config.only:
                    shutil.rmtree(folder / f"kept-{name}", ignore_errors=True)
                    for kind in ("cold", "warm"):
                        print(name, kind, _run(config, f"{name} epoch", folder, server), flush=True)
            for name in config.only:
                print(name, "resumes:", _resumes(config, name, folder, server), flush=True)


if __name__ == "__main__":
    cli.run(main, StreamingConfig, __doc__)
