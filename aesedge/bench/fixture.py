"""An open model to measure, with a photo that may be in its KV cache, and photos that it has not seen."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aesedge.bench.rounds import Sample, Stopwatch
from aesedge.image import read_image
from aesedge.llm import binding
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo
    from aesedge.scheduling.requests import Job

_CUT = 8
"""A new photo lacks up to an eighth of each side of its source."""


class NewPhotos:
    """Writes photos that no cache knows into a folder: crops of given ones, of the same size."""

    def __init__(self, sources: Sequence[Path], folder: Path) -> None:
        self._pictures = [read_image(path) for path in sources]
        self._folder = folder
        self._numbers = itertools.count()
        self._rng = np.random.default_rng()

    def write(self, *, megapixels: float | None = None) -> Path:
        """Return the path of a new JPEG, as large as its source or of the given number of megapixels."""
        n = next(self._numbers)
        picture = self._pictures[n % len(self._pictures)]
        # Crops begin between pixels: there are so few whole ones that one would come twice, and be in the caches.
        left, top = (self._rng.uniform(0, side / _CUT) for side in picture.size)
        width, height = ((1 - 1 / _CUT) * side for side in picture.size)
        part = (left, top, left + width, top + height)
        scale = 1.0 if megapixels is None else (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        path = self._folder / f"{n}.jpg"
        picture.resize(size, Image.Resampling.BICUBIC, box=part).save(path, quality=95)
        return path


class Fixture(Closing):
    """A warmed-up model with room for two photos, and the first photo, which may be in its KV cache. Close it.

    The model stays open when this is closed.
    """

    def __init__(self, model: Model, photos: Sequence[Path], new_photos: NewPhotos) -> None:
        self.model = model
        self.photos = photos
        self.new_photos = new_photos
        self._synchronize = binding.load().llama_synchronize
        watch = Stopwatch()
        with ExitStack() as stack:
            self.photo: Photo = stack.enter_context(model.look(photos[0]))
            self.photo.score()
            self.photo_s = watch.seconds
            """Time of looking at the photo and scoring it, the first time."""
            self.state = self._save()
            """The KV cache up to the end of the image, as :meth:`aesedge.llm.Context.save` returns it."""
            self.photo.internals.image.restore = self._restore
            self._resources = stack.pop_all()

    def prefill(self) -> None:
        """Have the photo in the KV cache; where it left, its state is restored."""

        def work() -> Job[None]:
            yield from self.model.internals.sequences.acquire(self.photo.internals.image)

        self.model.internals.scheduler.submit(work()).wait()

    def leave(self) -> None:
        """Evict the photo from the KV cache: attention reads the cells of others, and users have one photo."""
        self.model.internals.scheduler.call(
            lambda: self.model.internals.sequences.evict(self.photo.internals.image)
        ).wait()

    @property
    def n_resident(self) -> int:
        """Positions up to the end of the image."""
        return self.model.internals.sequences.n_positions(self.photo.internals.image)

    def timed(self, work: Job[Sample]) -> Sample:
        """Run a job on the scheduler."""
        return self.model.internals.scheduler.submit(work).wait()

    def _save(self) -> npt.NDArray[np.uint8]:
        sequences, image = self.model.internals.sequences, self.photo.internals.image

        def work() -> Job[npt.NDArray[np.uint8]]:
            seq_ids, _ = yield from sequences.acquire(image, n_forks=1)
            try:
                return sequences.context.save(seq_ids[0])
            finally:
                sequences.release(seq_ids)

        return self.model.internals.scheduler.submit(work()).wait()

    def _restore(self, seq_id: int) -> bool:
        self.model.internals.sequences.context.restore(seq_id, self.state, self.n_resident)
        return True

    def finish(self) -> None:
        """Wait for a GPU, which goes on after llama_decode returns; call it on the scheduler's thread."""
        self._synchronize(self.model.internals.sequences.context.handle)

    def close(self) -> None:
        """Release the photo. Closing twice does nothing."""
        self._resources.close()
