"""Trees of files and commands that say what a machine is like."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

GARBAGE = ["", "\n", "not a number", "-1", "9" * 5000, "\x00\xff\xfe", "max max max", "0x", "1 2 3 4 5 6 7 8 9", "²"]
"""What a file of the system may hold that is broken."""


def lay_out(root: Path, files: dict[str, str]) -> Path:
    """Write files, named from the root; returns the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return root


def command(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a command for a POSIX shell that is found before all others."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
