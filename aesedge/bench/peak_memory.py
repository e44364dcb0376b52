"""The most memory that this process, and its GPUs, have taken since a moment; knows no models."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil

from aesedge.llm.gpu_offload import gpu_devices

_RESET = "5"  # proc(5): the peak begins anew at what is there now


class PeakMemory:
    """Watches from when it is made."""

    def __init__(self) -> None:
        self.began_anew = False
        """Whether :attr:`ram_bytes` counts from here; else from the beginning of the process."""
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(_RESET, encoding="ascii")
            self.began_anew = True
        self._free = self._gpu_free()

    @property
    def ram_bytes(self) -> int:
        """Largest resident size."""
        with suppress(OSError, StopIteration):
            lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10
        if sys.platform == "win32":
            return int(psutil.Process().memory_info().peak_wset)
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) << (0 if sys.platform == "darwin" else 10)

    @property
    def gpu_bytes(self) -> int:
        """What became less on all GPUs; others may have taken it."""
        return max(0, self._free - self._gpu_free())

    def _gpu_free(self) -> int:
        return sum(gpu.free_bytes for gpu in gpu_devices() if not gpu.shares_ram)
