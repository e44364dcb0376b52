"""Read small files of /proc and /sys and the output of commands; failures give None, never an error.

Knows how to ask, not what is asked.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOST_BYTES = 1 << 20  # of a file that should be a line or a page
_MOST_DIGITS = 20  # of a 64-bit number; Python refuses to read numbers of thousands


def read_text(path: Path) -> str | None:
    """Return what a small file says, without space around it, or None where it is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").replace("\0", "").strip()
    except (OSError, ValueError):
        return None


def number_in(path: Path) -> int | None:
    """Return the whole number that a small file consists of, or None where it is missing or something else."""
    return parse_int(read_text(path))


def parse_int(text: str | None) -> int | None:
    """Return a whole number in decimal digits, or None."""
    digits = (text or "").removeprefix("-")
    if text is None or not (digits.isascii() and digits.isdecimal()) or len(digits) > _MOST_DIGITS:
        return None
    return int(text)


def command_output(command: Sequence[str], *, timeout_s: float = 5.0) -> str | None:
    """Return what a command prints to stdout, or None where it is missing, fails, or takes longer.

    Args:
        command: its name, looked up on PATH, and arguments.
        timeout_s: after so long it is ended.
    """
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 (the commands are written in this package)
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def nvidia_smi(*fields: str, timeout_s: float = 5.0) -> list[list[str]]:
    """Return fields of every GPU that nvidia-smi lists; nothing where there is no driver.

    Args:
        fields: as ``nvidia-smi --help-query-gpu`` names them; only the first may have commas in it.
        timeout_s: after so long it is ended.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    lines = (command_output(command, timeout_s=timeout_s) or "").splitlines()
    rows = [[part.strip() for part in line.rsplit(",", len(fields) - 1)] for line in lines]
    return [row for row in rows if len(row) == len(fields) and row[0]]
