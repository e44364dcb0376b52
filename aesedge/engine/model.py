"""A loaded bundle: photos in, ratings and texts out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar

from aesedge.bundle.bundle import POCKET, open_bundle
from aesedge.config.options import Options
from aesedge.config.plan import MOST_PHOTOS, ROOM_FOR_ONE_ANSWER
from aesedge.config.planning import check_image_tokens
from aesedge.engine import batch
from aesedge.engine.loading import load
from aesedge.engine.photo import Photo
from aesedge.errors import UsageError
from aesedge.image import name_of
from aesedge.scheduling.requests import Priority
from aesedge.system.bounds import check_keywords, check_type, check_whole
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Unpack

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.profile import Purpose
    from aesedge.engine.results import Outcome, PhotoResult
    from aesedge.image import ImageSource
    from aesedge.vision.providers import Device

S = TypeVar("S", bound="ImageSource")
T = TypeVar("T")


class Model(Closing):
    """A bundle in memory, opened by :func:`load_model`. Close it, or use ``with``.

    Safe for several threads: what they ask is computed in shared batches.

    Args:
        bundle: what to load.
        options: how.
        progress: called with the fraction of the language model that is loaded, 0..1.

    Raises:
        BundleError: a file is missing, altered, or not what the manifest says.
        ContextFullError: ``options.ctx`` is too small for the image and the shortest question.
        MemoryFitError: it would not fit the memory; nothing was loaded.
        ModelLoadError, ProviderError: see :class:`VisionTower`, :class:`LanguageModel`.
    """

    def __init__(
        self, bundle: Bundle, options: Options | None = None, progress: Callable[[float], None] | None = None
    ) -> None:
        self.internals, self._resources = load(bundle, options or Options(), progress)
        """The parts, for aesedge's own commands; they may change with every release."""
        plan = self.internals.plan
        self.bundle, self.manifest = bundle, bundle.manifest
        self.gguf, self.vision = plan.gguf, plan.vision
        """Quantization type of the language model, and precision of the vision graph."""
        self.n_image_tokens = plan.n_image_tokens
        """Positions that an image takes by default; see :meth:`look`."""

    def look(
        self,
        source: ImageSource,
        *,
        name: str | None = None,
        image_tokens: int | Literal["auto"] | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Photo:
        """Encode a photo and prefill its image, each once.

        Args:
            source: a path, the bytes of an image file, an open binary file, or a Pillow image.
            name: what to call it in results and messages.
            image_tokens: positions that it takes, None for what the model was opened with.
            priority: of everything that is asked about it, when several photos are open.

        Raises:
            ImageError: it cannot be read.
            UsageError: the bundle does not support this number of image tokens.
        """
        started = time.perf_counter()
        check_type("name", name, (str, type(None)), "a text or None")
        check_type("priority", priority, Priority, "an aesedge.Priority")
        if image_tokens not in (None, "auto"):
            check_whole("image-tokens", image_tokens, 1, self.manifest.image_tokens.max)
        n = self.n_image_tokens if image_tokens is None else check_image_tokens(self.manifest, image_tokens)
        encoded = self.internals.encoder.encode(source, n, name=name)
        return Photo(self.internals, name or name_of(source) or "image", encoded, started, priority)

    @property
    def photos_at_once(self) -> int:
        """How many photos are worth having open at once: as many as have room for an answer each, 4 at most."""
        n_each = self.n_image_tokens + ROOM_FOR_ONE_ANSWER
        return max(1, min(MOST_PHOTOS, self.internals.sequences.n_cells // n_each))

    def each(
        self, sources: Iterable[S], work: Callable[[Photo], T], *, at_once: int | None = None
    ) -> Iterator[Outcome[S, T]]:
        """Open photos and call a function with each; results come in order, and memory is bounded.

        The vision tower encodes the next photos while the language model works, where both have cores or a GPU of
        their own. What is asked elsewhere at the same time goes first.

        Args:
            sources: see :meth:`look`.
            work: called with every photo, on threads of this method if several are open; the photo is closed
                afterwards.
            at_once: how many photos. The texts of several are generated in the same batches, which is faster and
                changes the last bits of llama.cpp's sums. None takes :attr:`photos_at_once`.

        Yields:
            Each source with what ``work`` returned, or with the error of this photo.
        """
        if at_once is not None:
            check_whole("at_once", at_once, 1, batch.MOST_AT_ONCE)
        _check_sources(sources)
        return batch.each(self.internals, sources, work, at_once or self.photos_at_once)

    def score_many(self, sources: Iterable[S], *, attributes: bool = True) -> Iterator[Outcome[S, PhotoResult]]:
        """Score photos without generating text; results come in order, and memory is bounded.

        With few image tokens several photos share batches, as many as fit one: the same photos in the same order have
        the same scores, and another order changes the last digits.

        Args:
            sources: see :meth:`look`.
            attributes: whether to score the attributes too.

        Yields:
            Each source with its result, or with the error of this photo.
        """
        _check_sources(sources)
        return batch.score_many(self.internals, sources, attributes=attributes)

    def close(self) -> None:
        """Free everything. Its photos cannot be asked any more. Closing twice does nothing."""
        self._resources.close()

    def __repr__(self) -> str:
        return f"<Model {self.bundle.name!r}, {self.gguf.lower()}, {self.n_image_tokens} image tokens>"


def _check_sources(sources: Iterable[object]) -> None:
    """Check that several sources were given: one path is an iterable of letters.

    Raises:
        UsageError: it is a single one, or nothing to iterate over.
    """
    if isinstance(sources, str | bytes | os.PathLike) or not isinstance(sources, Iterable):
        raise UsageError(f"sources is {sources!r:.100}; it must be a list of photos")


class OptionKeywords(TypedDict, total=False):
    """The fields of :class:`Options` as keywords."""

    gguf: str | None
    vision: str
    image_tokens: int | Literal["auto"] | None
    device: Device
    gpu_layers: int | Literal["auto"]
    threads: int | None
    ctx: int | None
    photos: int
    cache: str
    kv_type: str | None
    purpose: Purpose
    memory: str | None
    kernels: bool
    tuned: bool
    cache_folder: Path | None
    worth_keeping_s: float


def load_model(
    bundle: str | os.PathLike[str] = POCKET,
    *,
    progress: Callable[[float], None] | None = None,
    **options: Unpack[OptionKeywords],
) -> Model:
    """Load a bundle.

    >>> with load_model("pocket", threads=4) as model, model.look("a.jpg") as photo:  # doctest: +SKIP
    ...     print(photo.score().score)

    Args:
        bundle: name of an installed bundle, or its folder.
        progress: called with the fraction of the language model that is loaded, 0..1.
        options: fields of :class:`Options`.

    Raises:
        UsageError: an option is unknown or out of its range.
        AesedgeError: see :class:`Model`.
    """
    check_keywords(options, Options)
    check_type("bundle", bundle, (str, os.PathLike), "a name or a folder")
    if progress is not None and not callable(progress):
        raise UsageError(f"progress is {progress!r}; it must be a function")
    return Model(open_bundle(bundle), Options(**options), progress)
