"""Write an evaluation as Markdown that can be cited: the command, versions and hashes beside the figures."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import aesedge
from aesedge.bundle.checksums import sha256
from aesedge.doctor.libraries import libraries
from aesedge.system.atomic_file import write_atomic
from aesedge.system.hardware import hardware
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def save_report(
    path: Path, *, title: str, command: Sequence[str], data: Path, settings: Sequence[Mapping[str, Any]], text: str
) -> None:
    """Write a report.

    Args:
        path: the Markdown file.
        title: its heading.
        command: as it was typed, without the program's name.
        data: the table or file that was evaluated on.
        settings: what each bundle was run with, its files' hashes among them.
        text: the figures, as the terminal shows them.

    Raises:
        OSError: it cannot be written.
    """
    facts = {
        "command": f"`aesedge {sanitize(' '.join(command))}`",
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "aesedge": aesedge.__version__,
        **versions(),
        "machine": machine_text(),
        "data": f"{sanitize(data.name or str(data))}" + (f", SHA-256 `{sha256(data)}`" if data.is_file() else ""),
    }
    lines = [f"# {sanitize(title)}", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    for one in settings:
        lines += ["", *(f"- {name}: {_cell(str(value))}" for name, value in one.items())]
    lines += ["", "```", _COLORS.sub("", text).strip(), "```", ""]
    write_atomic(path, "\n".join(lines).encode("utf-8", "backslashreplace"))


def versions() -> dict[str, str]:
    """Return the versions of both runtimes."""
    built = libraries()
    return {name: str(getattr(built, name)) for name in ("llama_cpp", "onnxruntime") if getattr(built, name, "")}


def machine_text() -> str:
    """Return what machine this is."""
    machine = hardware()
    return f"{machine.cpu}, {machine.n_usable} cores, {machine.system}"


def _cell(text: str) -> str:
    return sanitize(text).replace("|", r"\|")
