"""Say how long each step of an export takes, and how much memory the process has in it.

    python tests/measure_export.py CHECKPOINT [options of aesedge export]

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
    peak = [0]
    threading.Thread(target=_watch, args=(psutil.Process(export.pid), peak), daemon=True).start()
    rows, before = [], started
    for line in export.stderr or ():
        print(line, end="", file=sys.stderr, flush=True)
        step, _, state = line.strip().rpartition(": ")
        if state == "done":
            now = time.perf_counter()
            rows.append([step, f"{now - before:.0f}", f"{peak[0] / 2**30:.2f}"])
            before, peak[0] = now, 0
    code = export.wait()
    rows.append(["all", f"{time.perf_counter() - started:.0f}", ""])
    print()
    print(table(rows, header=["step", "seconds", "GiB resident"]))
    return code


def _watch(process: psutil.Process, peak: list[int]) -> None:
    while True:
        try:
            resident = process.memory_info().rss
            peak[0] = max(peak[0], resident)  # read before: it would write back a peak that was reset meanwhile
        except psutil.Error:
            return
        time.sleep(_EVERY_S)


if __name__ == "__main__":
    raise SystemExit(main())
