"""Encode photos to image embeddings: decode, preprocess, look in the cache, run the vision tower.

Embeddings are rounded to float16 whether they are cached or not, so that cached and fresh ones are the same bits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.cache import EmbeddingCache, embeddings_key, pixels_digest
from aesedge.errors import AesedgeError
from aesedge.image import preprocess, read_image, seen_of, warnings_of
from aesedge.image.size_limits import MAX_BYTES, MAX_PIXELS
from aesedge.system.fair_lock import FairLock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from aesedge.image import ImageSource, Seen
    from aesedge.image.image_spec import ImageSpec
    from aesedge.vision.tower import VisionTower


@dataclass(frozen=True)
class EncodedImage:
    """A photo's image embeddings."""

    rows: npt.NDArray[np.float16] | npt.NDArray[np.float32]
    """Image embeddings [n_image_tokens, n_embd]; float32 only where float16 cannot hold them."""
    key: str
    """Cache key: equal for equal pixels, tower and settings."""
    cached: bool
    """Whether they come from the cache."""
    decode_image_s: float
    vision_s: float
    warnings: tuple[str, ...] = ()
    """Warnings about the photo's file, given each time it is decoded, cached or not."""
    seen: Seen = "photo"
    """Whether the photo itself was decoded, or the preview that its camera put into the file."""

    def embeddings(self) -> npt.NDArray[np.float32]:
        """Return the embeddings as float32, for the language model."""
        return self.rows.astype(np.float32, copy=False)


@dataclass(frozen=True)
class PreparedPhoto:
    """A photo as the tower reads it."""

    pixel_values: npt.NDArray[np.float32]
    """Of :func:`aesedge.image.preprocess`."""
    digest: str
    """Of :func:`aesedge.cache.pixels_digest`."""
    decode_s: float
    warnings: tuple[str, ...]
    seen: Seen


def prepare_photo(
    source: ImageSource,
    spec: ImageSpec,
    *,
    name: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> PreparedPhoto:
    """Read and preprocess a photo; for limits and errors see :func:`aesedge.image.read_image`."""
    started = time.perf_counter()
    image = read_image(source, name=name, size_hint=spec.size, max_bytes=max_bytes, max_pixels=max_pixels)
    return prepared_from(image, spec, started)


def prepared_from(image: Image.Image, spec: ImageSpec, started: float) -> PreparedPhoto:
    """Preprocess a photo that :func:`aesedge.image.read_image` has read since ``started``."""
    pixel_values = preprocess(image, spec)
    decode_s = time.perf_counter() - started
    return PreparedPhoto(pixel_values, pixels_digest(pixel_values), decode_s, warnings_of(image), seen_of(image))


class ImageEncoder:
    """A vision tower with its preprocessing and cache. Thread-safe.

    Args:
        tower: the vision tower.
        spec: preprocessing of photos.
        tower_sha256: the graph file's SHA-256.
        cache: the embeddings cache.
        turns: lock to hold while the tower runs; None for one of its own.
        worth_keeping_s: least tower time, in seconds, for which embeddings are stored on disk.
    """

    def __init__(
        self,
        tower: VisionTower,
        spec: ImageSpec,
        *,
        tower_sha256: str,
        cache: EmbeddingCache,
        turns: FairLock | None = None,
        worth_keeping_s: float,
    ) -> None:
        self._tower = tower
        self._spec = spec
        self._sha256 = tower_sha256
        self.cache = cache
        self._worth_keeping_s = worth_keeping_s
        self._lock = turns or FairLock()  # two photos at once would only take cores and memory from each other

    def encode(
        self, source: ImageSource, n_image_tokens: int | None = None, *, name: str | None = None
    ) -> EncodedImage:
        """Encode a photo, or take its embeddings from the cache.

        Args:
            source: the photo.
            n_image_tokens: number of image tokens; None for all.
            name: the photo's name in messages.

        Raises:
            ImageError: it cannot be read.
            InferenceError: ONNX Runtime failed.
            UsageError: the tower cannot make this number of image tokens.
        """
        (encoded,) = self.encode_prepared([prepare_photo(source, self._spec, name=name)], n_image_tokens)
        return encoded

    def encode_many(
        self, sources: Sequence[ImageSource], n_image_tokens: int | None = None
    ) -> list[EncodedImage | AesedgeError]:
        """Encode photos in one batch; a photo that cannot be read has its error in its place.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        outcomes: list[PreparedPhoto | AesedgeError] = []
        for source in sources:
            try:
                outcomes.append(prepare_photo(source, self._spec))
            except AesedgeError as error:
                outcomes.append(error)
        prepared = [one for one in outcomes if isinstance(one, PreparedPhoto)]
        encoded = iter(self.encode_prepared(prepared, n_image_tokens))
        return [one if isinstance(one, AesedgeError) else next(encoded) for one in outcomes]

    def encode_prepared(self, photos: Sequence[PreparedPhoto], n_image_tokens: int | None = None) -> list[EncodedImage]:
        """Encode preprocessed photos in one batch, those that are not in the cache.

        Raises:
            InferenceError: ONNX Runtime failed.
            UsageError: the tower cannot make this number of image tokens.
        """
        keys = [self._key(photo, n_image_tokens) for photo in photos]
        hits = [self.cache.get(key) for key in keys]
        new = [photo.pixel_values for photo, hit in zip(photos, hits, strict=True) if hit is None]
        rows: Iterator[npt.NDArray[np.float32]] = iter(())
        vision_s = 0.0
        if new:
            with self._lock.hold():
                began = time.perf_counter()
                rows = iter(self._tower.encode_batch(np.concatenate(new), n_image_tokens))
                vision_s = (time.perf_counter() - began) / len(new)
        keeps = vision_s >= self._worth_keeping_s
        return [
            EncodedImage(
                self.cache.put(key, next(rows), on_disk=keeps) if hit is None else hit.rows,
                key,
                cached=hit is not None,
                decode_image_s=photo.decode_s,
                vision_s=vision_s if hit is None else 0.0,
                warnings=photo.warnings,
                seen=photo.seen,
            )
            for photo, key, hit in zip(photos, keys, hits, strict=True)
        ]

    def _key(self, photo: PreparedPhoto, n_image_tokens: int | None) -> str:
        n = n_image_tokens or self._tower.n_image_tokens
        return embeddings_key(
            pixels=photo.digest,
            tower_sha256=self._sha256,
            provider=self._tower.provider,
            runtime=self._tower.runtime,
            image=self._spec,
            n_image_tokens=n,
            reduction="none" if n == self._tower.n_image_tokens else self._tower.reduction,
        )
