"""What is answered: the current sample submission in input/, and the pixels of its images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from src.competitions.spec import check_has_answers
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.data.cache import ImageCache, open_cache, sources_of
from src.data.facts import Sources
from src.data.labels import check_answers, read_test
from src.data.prepared import Prepared
from src.data.remote import Remote

CHANGED = "test images have changed in input/ since prepare read them"


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """What is answered: ids and image paths, rows in the submission's order, read once for a command.

    An id may have several images, and an image several ids.
    """

    __test__ = False  # not a test of pytest's

    table: pd.DataFrame  # image_path, id, and with a row for each head the head's name
    # Of image_paths: size and time of each image's file now; None if input/ is not on this machine.
    sources: Sources | None
    note: str  # what the user should know about where the table comes from, or nothing
    sample: str  # where the ids were read: "input", or "snapshot"

    @cached_property
    def image_paths(self) -> list[str]:
        """Each image once, in the order in which it is first asked for."""
        return list(dict.fromkeys(self.table["image_path"]))

    @cached_property
    def ids(self) -> "pd.Series[str]":
        """The submission's ids, in its order."""
        return self.table["id"].drop_duplicates()

    def cache(self, prepared: Prepared, size: tuple[int, int]) -> ImageCache:
        """Return a cache of this size that holds these very images: the snapshot's, or that of a later prepare.

        Raises InputError, with the command to run, if there is none.
        """
        crops = ""
        try:
            own = prepared.cache("test", size)
            crops = own.record.crops
            problem = self._differs(own, prepared, size)
            if not problem:
                return own
        except InputError as error:
            problem = str(error)
        for path in sorted((prepared.root / "cache").glob(f"test_{size[0]}x{size[1]}_*.json")):
            other = _open(path, prepared.remote)
            if other is None or not _alike(other, prepared):
                continue
            differs = self._differs(other, prepared, size)
            if not differs and crops not in ("", other.record.crops):
                print("note: the test images are cropped by another crops.csv than those that prepare read first")
            if not differs:
                return other
            problem = differs if CHANGED in differs else problem  # nearer than a cache that lacks images
        raise InputError(problem)

    def _differs(self, cache: ImageCache, prepared: Prepared, size: tuple[int, int]) -> str:
        """Return what is wrong with a cache for these images, or nothing."""
        paths = self.image_paths
        rows = cache.image_paths.find(paths)
        new = np.flatnonzero(rows < 0)
        if len(new):
            return (
                f"{len(new):,} test images of the sample submission are not those that prepare read, such as "
                f"{paths[new[0]]}; run {prepared.command(size=size)}"
            )
        if self.sources is None:
            return ""
        changed = np.flatnonzero((self.sources.sizes >= 0) & ~self.sources.same(cache.sources.pick(rows)))
        if len(changed):
            return f"{len(changed):,} {CHANGED}, such as {paths[changed[0]]}; run {prepared.command(size=size)}"
        return ""

    def num_unreadable(self, cache: ImageCache) -> int:
        """Return how many of these images are answered from a black image."""
        return int((~cache.readings.readable[cache.rows_of(self.image_paths)]).sum())


def _alike(cache: ImageCache, prepared: Prepared) -> bool:
    """Return whether a cache's images were fitted and cropped as those that the runs learned from."""
    return (cache.record.fit, bool(cache.record.crops)) == (prepared.decoding.fit, prepared.is_cropped)


def _open(path: Path, remote: Remote | None) -> ImageCache | None:
    try:
        return open_cache(path.parent, path.stem, remote=remote)
    except InputError:
        return None


def open_test_set(prepared: Prepared) -> TestSet:
    """Read the sample submission from input/, or if that is not on this machine from the snapshot.

    Raises InputError if it cannot be read or holds no ids.
    """
    check_has_answers(prepared.competition)
    check_answers(prepared.competition)  # its file may have been changed since prepare
    competition, root = prepared.competition, prepared.config.input_dir / prepared.competition.input_folder
    if not root.is_dir():
        note = f"note: {root} is not on this machine; prepare's copy of the sample submission is answered"
        test = TestSet(table=prepared.test, sources=None, note=note, sample="snapshot")
    else:
        files = InputFiles(root, competition.source, suffixes=competition.image_suffixes)
        table = read_test(competition, files).reset_index(drop=True)
        paths = list(dict.fromkeys(table["image_path"]))
        files.locate(paths)
        sources = sources_of(paths, files.located)
        test = TestSet(table=table, sources=sources, note=_changes(table, prepared.test), sample="input")
    if len(test.table) == 0:
        raise InputError(f"{root}: the sample submission has no rows")
    return test


def _changes(now: pd.DataFrame, then: pd.DataFrame) -> str:
    """Return a note if the sample submission is not the one that prepare read."""
    if now["id"].tolist() == then["id"].tolist():
        return ""
    same = np.isin(now["id"], then["id"]).all() and len(now) == len(then)
    what = "its order" if same else f"{len(now):,} ids instead of {len(then):,}" if len(now) != len(then) else "its ids"
    changed = f"note: the sample submission is not the one that the run was prepared for ({what})"
    return f"{changed}; its rows are answered as they are now"
