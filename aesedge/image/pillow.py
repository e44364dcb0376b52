"""Open image files with Pillow without its process-wide limits and warnings."""

from __future__ import annotations

import struct
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.ImageFile import ImageFile

_REFUSED = frozenset({"EPS"})  # Pillow starts Ghostscript on it: a program, run on a file that a stranger may have made


def open_with_pillow(file: BinaryIO) -> ImageFile:
    """Open an image file, its header only.

    What ``PIL.Image.open`` does, but for its check of pixels: that one follows a global of the process, warns from
    89 MP and refuses above 179 MP, where phones take 200 MP photos. The caller checks the size.
    """
    file.seek(0)
    head = file.read(16)
    tried: set[str] = set()
    for load_plugins in (Image.preinit, Image.init):  # the five usual formats, then all
        load_plugins()
        for format_ in Image.ID:
            if format_ in tried or format_ in _REFUSED:
                continue
            tried.add(format_)
            image = _try_plugin(format_, file, head)
            if image is not None:
                return image
    raise UnidentifiedImageError


def _try_plugin(format_: str, file: BinaryIO, head: bytes) -> ImageFile | None:
    factory, accept = Image.OPEN[format_]
    try:
        accepted = accept is None or accept(head)
        if not accepted or isinstance(accepted, str):  # text: a format that this Pillow was built without
            return None
        file.seek(0)
        return factory(file, "")
    except (SyntaxError, IndexError, TypeError, struct.error):  # how plugins say "not mine"
        return None


class _Silence:
    """Counts who needs silence: overlapping ``catch_warnings`` of two threads would leave the filters changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_users = 0
        self._caught: warnings.catch_warnings[None] | None = None

    def enter(self) -> None:
        with self._lock:
            self._n_users += 1
            if self._n_users == 1:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")

    def leave(self) -> None:
        with self._lock:
            self._n_users -= 1
            if self._n_users == 0 and self._caught is not None:
                self._caught.__exit__(None, None, None)
                self._caught = None


_silence = _Silence()


@contextmanager
def pillow_silenced() -> Iterator[None]:
    """Keep Pillow's own warnings (odd metadata, large pictures) from the user and from ``-W error``."""
    _silence.enter()
    try:
        yield
    finally:
        _silence.leave()
