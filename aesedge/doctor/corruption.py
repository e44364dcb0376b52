"""Damaged, strange and old cache files: none may be believed; knows where files lie and how they begin.

Each damage is done to a photo's embeddings, to its pinned KV and to the text before the image, all at once: the photo
must then be as new, its answer right, and nothing of what was damaged left on the disk.
"""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING, NamedTuple

from aesedge.bundle.checksums import sha256
from aesedge.cache import DiskStore
from aesedge.cache.entry_file import FORMAT_VERSION, MAGIC
from aesedge.cache.lru_index import entry_path
from aesedge.doctor import probe
from aesedge.doctor.difference import Check, Difference, Limits
from aesedge.doctor.probe import caught_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Literal

    from aesedge.doctor.bundle_under_test import BundleUnderTest, ColdReference

    Kind = Literal["embeddings", "kv"]

GROUP = "files"
KINDS: tuple[Kind, Kind] = ("embeddings", "kv")
_HEADER_AT = 64
"""Somewhere in the header: after what every file begins with, before the payload."""


class Files(NamedTuple):
    """From what a damaged file is made."""

    own: bytes
    """The sound file."""
    of_other_kind: bytes
    """The same photo's, of the other kind."""
    of_other_photo: bytes
    """Another photo's, of the same kind."""


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def _older(content: bytes) -> bytes:
    return MAGIC + struct.pack("<I", FORMAT_VERSION - 1) + content[len(MAGIC) + 4 :]


DAMAGES: dict[str, Callable[[Files], bytes]] = {
    "cut short": lambda files: files.own[: len(files.own) * 2 // 3],
    "empty": lambda _files: b"",
    "a bit of the header flipped": lambda files: _flipped(files.own, _HEADER_AT),
    "a bit of the content flipped": lambda files: _flipped(files.own, len(files.own) * 3 // 4),
    "another photo's file": lambda files: files.of_other_photo,
    "another kind's file": lambda files: files.of_other_kind,
    "an older version's file": lambda files: _older(files.own),
}


def damaged(
    patient: BundleUnderTest, cold: ColdReference, limits: Limits, photos: Sequence[Path], show: Callable[[float], None]
) -> list[Check]:
    """Do every damage to the files of the first photo, and see what becomes of them."""
    sound, other = (_keep(patient, path) for path in photos[:2])
    checks = []
    for i, (name, damage) in enumerate(DAMAGES.items()):
        folder = patient.new_folder()
        shutil.copytree(sound, folder)
        made = _damage(folder, other, damage)
        found, problem = _ask(patient, cold, photos[0], folder, made)
        checks.append(Check(GROUP, name, found, limits, problem or limits.problem(found)))
        shutil.rmtree(folder)
        show((i + 1) / len(DAMAGES))
    return checks


def _keep(patient: BundleUnderTest, path: Path) -> Path:
    """Keep everything about a photo on disk; return where."""
    folder = patient.new_folder()
    with patient.kept(folder) as model, model.look(path) as photo:
        photo.pin()
    return folder


def _files(folder: Path) -> dict[tuple[Kind, bool], Path]:
    """Return the cache files in a folder of one photo, by kind and whether they are pinned."""
    found: dict[tuple[Kind, bool], Path] = {}
    for kind in KINDS:
        for entry in DiskStore(folder / kind, kind=kind, budget_bytes=None).entries():
            found[kind, entry.pinned] = entry_path(folder / kind, entry.key, pinned=entry.pinned)
    return found


def _damage(folder: Path, other: Path, damage: Callable[[Files], bytes]) -> dict[Path, str]:
    """Put something else in the place of every file; return the SHA-256 of what now stands there."""
    own = {place: path.read_bytes() for place, path in _files(folder).items()}
    others = _files(other)
    made = {}
    for (kind, pinned), path in _files(folder).items():
        of_other_kind = own["kv", True] if kind == "embeddings" else own["embeddings", False]
        stranger = others[kind, kind == "kv"].read_bytes()  # the text before the image is the same for all photos
        path.write_bytes(damage(Files(own[kind, pinned], of_other_kind, stranger)))
        made[path] = sha256(path)
    return made


def _ask(
    patient: BundleUnderTest, cold: ColdReference, path: Path, folder: Path, made: dict[Path, str]
) -> tuple[Difference, str]:
    """Ask about the photo over damaged files; return how far the answer is off, and what else is wrong."""
    with caught_warnings() as remarks, patient.kept(folder) as model, model.look(path) as photo:
        state = photo.cache_state
        found = probe.between(probe.probe_photo(model, photo), cold.seen(path))
    if state != "cold":
        return found, f"a damaged file was believed: the photo was taken from {state}"
    left = [file for file, digest in made.items() if file.exists() and sha256(file) == digest]
    if left:
        return found, f"still on disk: {left[0].parent.name}/{left[0].name}"
    for kind in KINDS:
        n_remarks = sum(str(folder / kind) in remark for remark in remarks)
        if n_remarks != 1:
            return found, f"{n_remarks} remarks about damaged {kind} instead of one"
    return found, ""
