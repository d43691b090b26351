"""Memory and GPU utilisation of an epoch, for log.csv."""

import importlib
import importlib.util
import resource
import sys

import torch


class ResourceMonitor:
    """Peak memory (MiB; the GPU's if there is one, else this process's) and mean GPU utilisation (0 to 1).

    Utilisation is sampled from NVIDIA's driver; 0 without a GPU or without nvidia-ml-py.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.can_ask = self.on_gpu and importlib.util.find_spec("pynvml") is not None
        self.driver_error: type[Exception] = RuntimeError
        if self.can_ask:
            self.driver_error = importlib.import_module("pynvml").NVMLError
        self.readings: list[float] = []
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> None:
        """Sample the driver once, which takes a few milliseconds; call it every few steps."""
        if self.can_ask:
            try:
                self.readings.append(torch.cuda.utilization() / 100)
            except (RuntimeError, self.driver_error) as error:  # not reported, as for a slice of a GPU
                print(f"GPU utilisation cannot be read ({error}): log.csv has 0")
                self.can_ask = False

    def row(self) -> dict[str, float]:
        """Return the columns of log.csv."""
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
        peak = (
            torch.cuda.max_memory_allocated()
            if self.on_gpu
            else unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        )
        utilisation = sum(self.readings) / len(self.readings) if self.readings else 0.0
        return {"memory_mib": peak / 2**20, "gpu_utilisation": utilisation}
