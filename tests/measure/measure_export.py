"""Say how long each step of an export takes, and how much memory the process has in it.

    python tests/measure/measure_export.py CHECKPOINT [options of aesedge export]

Runs ``aesedge export`` and samples its resident memory four times a second; a shorter peak is missed. Resident means
what the process holds in memory, the mapped parts of files among it. The export's own output goes to stdout as it is,
the table follows.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psutil

from aesedge.cli.terminal import table

_EVERY_S = 0.25


def main() -> int:
    """Run the export, print the table, return the export's exit status."""
    command = [sys.executable, "-m", "aesedge", "export", *sys.argv[1:]]
    started = time.perf_counter()
    export = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    peak = Peak(export.pid)
    rows, before = [], started
    for line in export.stderr or ():
        print(line, end="", file=sys.stderr, flush=True)
        step, _, state = line.strip().rpartition(": ")
        if state == "done":
            now = time.perf_counter()
            rows.append([step, f"{now - before:.0f}", f"{peak.take() / 2**30:.2f}"])
            before = now
    code = export.wait()
    rows.append(["all", f"{time.perf_counter() - started:.0f}", ""])
    print()
    print(table(rows, header=["step", "seconds", "GiB resident"]))
    return code


class Peak:
    """The most memory that a process has held, as sampled by a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._mutex = threading.Lock()  # a sample must not be taken before take() and counted after it
        self._n_bytes = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def take(self) -> int:
        """Return the peak in bytes since the last call."""
        with self._mutex:
            n_bytes, self._n_bytes = self._n_bytes, 0
        return n_bytes

    def _watch(self) -> None:
        while True:
            with self._mutex:
                try:
                    self._n_bytes = max(self._n_bytes, self._process.memory_info().rss)
                except psutil.Error:
                    return
            time.sleep(_EVERY_S)


if __name__ == "__main__":
    raise SystemExit(main())
