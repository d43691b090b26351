"""test.npz of a fold: predictions kept to be used again, under a key of all that they depend on."""

import errno
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.core.writing import write_arrays


@dataclass(frozen=True)
class KeptPredictions:
    """A file of arrays, their key and a hash of both, so that an edited file is not used."""

    path: Path
    key: str
    weights: str = ""  # SHA-256 of the weights that predicted; enough to read them for a look (`read_of_weights`)

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return an array of this shape, or None if the file is of another key, damaged or not there."""
        array, hashed = self._load(name, f"{name}_hash")
        return array if array.shape == shape and hashed == self._hash(name, array) else None

    def read_of_weights(self, width: int) -> np.ndarray | None:
        """Return predictions (N, width) of these weights, over views if there are any; None as `read`."""
        for name in ("probabilities_tta", "probabilities"):
            array, sealed = self._load(name, f"{name}_seal")
            if array.shape[1:] == (width,) and sealed == self._seal(name, array):
                return array
        return None

    def _load(self, name: str, hash_name: str) -> tuple[np.ndarray, str]:
        """Return an array and the hash that it should have; both are empty if the file is damaged or missing."""
        try:
            with open(self.path, "rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return kept[name], str(kept[hash_name])
        except (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile):
            return np.empty(0), ""

    def write(self, **arrays: np.ndarray) -> None:
        """Keep arrays; where runs/ is read-only, only says so."""
        hashes = {f"{name}_hash": np.array(self._hash(name, array)) for name, array in arrays.items()}
        hashes |= {f"{name}_seal": np.array(self._seal(name, array)) for name, array in arrays.items()}
        try:
            write_arrays(self.path, **arrays, **hashes)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            print(f"note: {self.path.parent} is read-only, so these predictions are not kept for the next time")

    def _hash(self, name: str, array: np.ndarray) -> str:
        return _hash_of(f"{name} {array.dtype} {self.key}", array)

    def _seal(self, name: str, array: np.ndarray) -> str:
        return _hash_of(f"{name} {array.dtype} of {self.weights}", array)


def _hash_of(text: str, array: np.ndarray) -> str:
    return hashlib.sha256(text.encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
