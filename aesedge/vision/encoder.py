"""Encode photos to image embeddings: decode, preprocess, look in the cache, run the vision tower.

Embeddings are rounded to float16 whether they are cached or not, so that cached and fresh ones are the same bits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.cache import EmbeddingCache, Hit, embeddings_key, pixels_digest
from aesedge.errors import AesedgeError
from aesedge.image import preprocess, read_image, warnings_of
from aesedge.system.fair_lock import FairLock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.image import ImageSource
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

    def embeddings(self) -> npt.NDArray[np.float32]:
        """Return the embeddings as float32, for the language model."""
        return self.rows.astype(np.float32, copy=False)


@dataclass(frozen=True)
class _Prepared:
    """A preprocessed photo, and its embeddings if they are cached."""

    pixel_values: npt.NDArray[np.float32]
    key: str
    decode_s: float
    hit: Hit | None
    warnings: tuple[str, ...]


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
        (encoded,) = self._seen([self._prepare(source, n_image_tokens, name)], n_image_tokens)
        return encoded

    def encode_many(
        self, sources: Sequence[ImageSource], n_image_tokens: int | None = None
    ) -> list[EncodedImage | AesedgeError]:
        """Encode photos in one batch; a photo that cannot be read has its error in its place.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        outcomes: list[_Prepared | AesedgeError] = []
        for source in sources:
            try:
                outcomes.append(self._prepare(source, n_image_tokens))
            except AesedgeError as error:
                outcomes.append(error)
        seen = iter(self._seen([one for one in outcomes if isinstance(one, _Prepared)], n_image_tokens))
        return [one if isinstance(one, AesedgeError) else next(seen) for one in outcomes]

    def _prepare(self, source: ImageSource, n_image_tokens: int | None, name: str | None = None) -> _Prepared:
        """Read and preprocess a photo, and look it up in the cache."""
        n = n_image_tokens or self._tower.n_image_tokens
        started = time.perf_counter()
        image = read_image(source, name=name, size_hint=self._spec.size)
        pixel_values = preprocess(image, self._spec)
        decoded = time.perf_counter()
        key = embeddings_key(
            pixels=pixels_digest(pixel_values),
            tower_sha256=self._sha256,
            provider=self._tower.provider,
            runtime=self._tower.runtime,
            image=self._spec,
            n_image_tokens=n,
            reduction="none" if n == self._tower.n_image_tokens else self._tower.reduction,
        )
        return _Prepared(pixel_values, key, decoded - started, self.cache.get(key), warnings_of(image))

    def _seen(self, prepared: Sequence[_Prepared], n_image_tokens: int | None) -> list[EncodedImage]:
        new = [one for one in prepared if one.hit is None]
        rows: Iterator[npt.NDArray[np.float32]] = iter(())
        vision_s = 0.0
        if new:
            with self._lock.hold():
                began = time.perf_counter()
                rows = iter(self._tower.encode_batch(np.concatenate([one.pixel_values for one in new]), n_image_tokens))
                vision_s = (time.perf_counter() - began) / len(new)
        found = []
        for one in prepared:
            is_new = one.hit is None
            keeps = vision_s >= self._worth_keeping_s
            embeddings = self.cache.put(one.key, next(rows), on_disk=keeps) if one.hit is None else one.hit.rows
            found.append(
                EncodedImage(
                    embeddings,
                    one.key,
                    cached=not is_new,
                    decode_image_s=one.decode_s,
                    vision_s=vision_s if is_new else 0.0,
                    warnings=one.warnings,
                )
            )
        return found
