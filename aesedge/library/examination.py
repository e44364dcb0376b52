"""Decode a photo once: its pixels for the tower, its identity, and what bursts need."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from aesedge.errors import AesedgeError, ImageError
from aesedge.image import full_size_of, read_image
from aesedge.library.capture import read_capture
from aesedge.library.finding import PhotoFile, Picture, state_of
from aesedge.library.identity import tail_digest
from aesedge.library.records import Content
from aesedge.vision.encoder import PreparedPhoto, prepared_from

if TYPE_CHECKING:
    from aesedge.image.image_spec import ImageSpec

THUMBNAIL = (16, 16)
_TRIES = 3


@dataclass(frozen=True)
class Examined:
    """A photo that was decoded."""

    picture: Picture
    digest: bytes
    """Of its pixels."""
    tail: bytes
    about: Content
    prepared: PreparedPhoto

    @property
    def name(self) -> str:
        """Its path, by which results and errors call it."""
        return self.picture.name


def examine(picture: Picture, spec: ImageSpec) -> Examined:
    """Decode a photo.

    Raises:
        ImageError: it cannot be read.
    """
    for _ in range(_TRIES):
        started = time.perf_counter()
        image = read_image(picture.name, size_hint=spec.size)
        prepared = prepared_from(image, spec, started)
        try:
            tail = tail_digest(picture.name, picture.file.state.size)
            state = state_of(picture.name)
        except OSError as error:
            raise ImageError(f"{picture.name}: cannot be read: {error.strerror or error}; check the disk") from error
        if state == picture.file.state:
            break
        picture = Picture(PhotoFile(picture.name, state), picture.others)
    else:
        raise ImageError(f"{picture.name}: changes while it is read; wait until it is written")
    width, height = full_size_of(image)
    capture = read_capture(picture.name)
    # Bursts are found by time: without it nothing is compared.
    has_time = capture.taken_at is not None
    thumbnail = image.resize(THUMBNAIL, Image.Resampling.BOX, reducing_gap=2.0).tobytes() if has_time else None
    about = Content(width=width, height=height, thumbnail=thumbnail, **capture._asdict())
    return Examined(picture, bytes.fromhex(prepared.digest), tail, about, prepared)


def tail_of(picture: Picture) -> bytes | None:
    """Return the digest of a file's tail; None where it cannot be read, which decoding will say better."""
    try:
        return tail_digest(picture.name, picture.file.state.size)
    except (OSError, AesedgeError):
        return None
