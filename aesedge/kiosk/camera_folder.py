"""Watch the folder that a tethered camera writes to, and keep the newest photo as a JPEG for the page."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aesedge.errors import AesedgeError
from aesedge.image.find_photos import PHOTO_SUFFIXES, RAW_SUFFIXES
from aesedge.image.reading import read_image
from aesedge.serve.settings import MOST_PIXELS

if TYPE_CHECKING:
    from concurrent.futures import Executor

_LOOK_S = 0.25
_MOST_BYTES = 256 * 2**20
MOST_SIDE = 1280
"""Pixels of the long side of what the page shows and sends."""


class _Seen(NamedTuple):
    inode: int
    n_bytes: int
    changed_ns: int


class CameraFolder:
    """The folder. What is there at the start is not shown. No clock is asked: one that is set back changes nothing.

    Args:
        folder: where the camera writes; it may come and go.
        pool: where files are read.
    """

    def __init__(self, folder: Path, pool: Executor) -> None:
        self._folder = folder
        self._pool = pool
        self._known: dict[str, _Seen] | None = None
        self._growing: dict[str, _Seen] = {}
        self.is_there = True
        self.number = 0
        """Of the newest photo; 0 before the first."""
        self.jpeg: bytes | None = None
        """The newest photo, until it was taken; None too where it could not be read."""

    async def watch(self) -> None:
        """Look at the folder until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            path = await loop.run_in_executor(self._pool, self._look)
            if path is not None:
                self.jpeg = await loop.run_in_executor(self._pool, _as_jpeg, path)
                self.number += 1
            await asyncio.sleep(_LOOK_S)

    def take(self, number: int) -> bytes | None:
        """Return the photo of a number once, or None where it is gone or cannot be read."""
        if number != self.number:
            return None
        found, self.jpeg = self.jpeg, None
        return found

    def _look(self) -> Path | None:
        """Return a photo that is new and whole: its size did not change between two looks."""
        found: dict[str, _Seen] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    suffix = Path(entry.name).suffix.lower()
                    is_photo = suffix in PHOTO_SUFFIXES - RAW_SUFFIXES and not entry.name.startswith(".")
                    if is_photo and entry.is_file():
                        told = entry.stat()
                        found[entry.name] = _Seen(told.st_ino, told.st_size, told.st_mtime_ns)
        except OSError:
            self.is_there = False
            return None
        self.is_there = True
        if self._known is None:
            self._known = found
            return None
        new = {name: seen for name, seen in found.items() if self._known.get(name) != seen}
        whole = [name for name, seen in new.items() if self._growing.get(name) == seen and seen.n_bytes]
        self._growing = new
        self._known = {name: seen for name, seen in found.items() if name not in new or name in whole}
        return self._folder / max(whole, key=lambda name: (new[name].changed_ns, name)) if whole else None


def _as_jpeg(path: Path) -> bytes | None:
    """Return a photo as a JPEG that a screen can show, or None where it cannot be read."""
    try:
        image = read_image(path, size_hint=MOST_SIDE // 2, max_bytes=_MOST_BYTES, max_pixels=MOST_PIXELS)
    except (AesedgeError, OSError):
        return None
    image.thumbnail((MOST_SIDE, MOST_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()
