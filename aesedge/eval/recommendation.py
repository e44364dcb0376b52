"""Say what a comparison of settings was measured on, for the manifest that keeps it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec

import aesedge
from aesedge.bundle.checksums import sha256
from aesedge.eval.report import machine_text, versions
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.fidelity import Comparison


def with_provenance(found: Comparison, bundle: Bundle, data: Path) -> Comparison:
    """Return a comparison that says when, where and on what it was measured.

    Args:
        found: the comparison.
        bundle: what was run.
        data: the file with the ratings or questions.
    """
    used = {("llm", one.gguf) for one in found.settings} | {("vision", one.vision) for one in found.settings}
    return msgspec.structs.replace(
        found,
        data=sanitize(data.name),
        data_sha256=sha256(data),
        date=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        aesedge=aesedge.__version__,
        libraries=versions(),
        machine=machine_text(),
        files={f.path: f.sha256 for f in bundle.manifest.files if (f.role, f.type.lower()) in used},
    )
