"""What is in the KV cache and who may use its sequences; knows rows and tokens, not photos or questions.

The text before the image is the same for all: it is prefilled once, and every image continues from it. What has to
leave for lack of room, least recently used first, comes back by itself when it is needed again. Everything here runs
on the scheduler's thread.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aesedge.errors import ContextFullError
from aesedge.scheduling.requests import DecodeTokens, Job, PrefillEmbeddings, Reserve, WaitFor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from aesedge.llm import Context

_PREFIX_SEQ = 0


class CachedSequence:
    """Something that is, was or will be in the KV cache under a sequence of its own."""

    def __init__(self) -> None:
        self.seq_id: int | None = None
        self.n_users = 0
        """How many pieces of work rely on it now: it stays while there are any."""
        self.loading = False
        """Whether some work is bringing it in."""

    def is_resident(self) -> bool:
        """Whether it is in the cache now; every wait may change that."""
        return self.seq_id is not None


class CachedImage(CachedSequence):
    """An image.

    Args:
        rows: returns its embeddings, float32 [n_image_tokens, n_embd].
        n_rows: how many there are.
        restore: puts it into an empty sequence without computing it, where its keys and values were kept; returns
            whether it did.
    """

    def __init__(
        self,
        rows: Callable[[], npt.NDArray[np.float32]],
        n_rows: int,
        restore: Callable[[int], bool] | None = None,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.n_rows = n_rows
        self.restore = restore
        self.restored = False
        """Whether it came back by :attr:`restore` the last time."""


class SequenceCache:
    """The sequences of one context.

    Args:
        context: an empty KV cache; whoever made it closes it.
        n_prefix: tokens before every image.
    """

    def __init__(self, context: Context, n_prefix: int) -> None:
        self.context = context
        self.n_prefix = n_prefix
        self._free_seq_ids = list(range(context.n_seq_max - 1, _PREFIX_SEQ, -1))
        self._inside: list[CachedSequence] = []  # least recently used first

    def prefill_prefix(self, prefix: Sequence[int]) -> Job[None]:
        """Put the text that comes before every image into the cache."""
        yield DecodeTokens([(_PREFIX_SEQ, prefix)])

    @property
    def prefix_seq_id(self) -> int:
        """The sequence of the text before every image."""
        return _PREFIX_SEQ

    def n_positions(self, image: CachedImage) -> int:
        """Positions of an image and of the text before it."""
        return self.n_prefix + image.n_rows

    @property
    def n_cells(self) -> int:
        """Cells for images and what is asked about them."""
        return self.context.n_ctx - self.n_prefix

    def acquire(self, image: CachedImage, *, n_forks: int = 0, n_cells: int = 0) -> Job[tuple[list[int], bool]]:
        """See that an image is in the cache, together with room for what will be asked about it.

        Image and room are asked for at once, and the image may leave while its own work waits: work that held the one
        while it waits for the other would stop all others that do the same.

        Args:
            image: which; whoever relies on it afterwards says so with :meth:`using`.
            n_forks: how many sequences that begin with the image are wanted; ``release`` returns them.
            n_cells: how many cells will be appended to them in all.

        Returns:
            The forks, and whether the image had to be brought in.
        """
        while True:
            while image.loading:
                yield WaitFor(lambda: not image.loading)
            if not image.is_resident():
                image.loading = True
                try:
                    (forks,) = yield from self._load([image], n_forks, n_cells)
                finally:
                    image.loading = False
                return self._forked(image, forks), True
            self._touch(image)
            forks = yield Reserve(n_forks, n_cells)
            if image.is_resident():
                return self._forked(image, forks), False
            self.release(forks)

    def acquire_batch(self, images: Sequence[CachedImage], *, n_forks: int, n_cells: int) -> Job[list[list[int]]]:
        """Bring in several images at once that nobody has asked for before; their rows share batches.

        Args:
            images: which; whoever relies on them afterwards says so with :meth:`using`.
            n_forks: how many sequences that begin with each are wanted; ``release`` returns them.
            n_cells: how many cells will be appended to those of each image in all.

        Returns:
            The forks of each.
        """
        for image in images:
            image.loading = True
        try:
            forks = yield from self._load(images, n_forks, n_cells)
        finally:
            for image in images:
                image.loading = False
        return [self._forked(image, of_one) for image, of_one in zip(images, forks, strict=True)]

    def _load(self, images: Sequence[CachedImage], n_forks: int, n_cells: int) -> Job[list[list[int]]]:
        n = len(images)
        # A restored image shares no cells with others.
        n_prefixes = self.n_prefix * sum(image.restore is not None for image in images)
        n_rows = sum(image.n_rows for image in images)
        seq_ids: list[int] = yield Reserve(n * (1 + n_forks), n * n_cells + n_rows + n_prefixes)
        own, forks = seq_ids[:n], seq_ids[n:]
        try:
            new = []
            for image, seq_id in zip(images, own, strict=True):
                image.restored = image.restore is not None and image.restore(seq_id)
                if not image.restored:
                    self.context.fork(_PREFIX_SEQ, seq_id)
                    new.append((seq_id, image.rows()))
            if new:
                yield PrefillEmbeddings(new)
        except BaseException:
            self.release(seq_ids)
            raise
        for image, seq_id in zip(images, own, strict=True):
            self.attach(image, seq_id)
        return [forks[i * n_forks : (i + 1) * n_forks] for i in range(n)]

    def _forked(self, image: CachedImage, forks: list[int]) -> list[int]:
        for seq_id in forks:
            self.context.fork(image.seq_id or 0, seq_id)
        return forks

    @contextmanager
    def pinned(self, resident: CachedSequence) -> Iterator[None]:
        """Keep something from being evicted."""
        resident.n_users += 1
        try:
            yield
        finally:
            resident.n_users -= 1

    def attach(self, resident: CachedSequence, seq_id: int) -> None:
        """Let something keep a sequence of its own, until it is evicted."""
        resident.seq_id = seq_id
        self._inside.append(resident)

    def _touch(self, resident: CachedSequence) -> None:
        self._inside.remove(resident)
        self._inside.append(resident)

    def allocate(self, n: int) -> list[int]:
        """Take empty sequences; ``release`` returns them."""
        if n > len(self._free_seq_ids):
            raise ContextFullError(f"{n} sequences are wanted, {len(self._free_seq_ids)} are free")
        return [self._free_seq_ids.pop() for _ in range(n)]

    def release(self, seq_ids: Sequence[int]) -> None:
        """Empty sequences and let others have them."""
        for seq_id in seq_ids:
            if self.context.is_open:
                self.context.truncate(seq_id, 0)
            self._free_seq_ids.append(seq_id)

    @property
    def n_sequences_free(self) -> int:
        """Sequences that nobody has."""
        return len(self._free_seq_ids)

    def evict_one(self) -> bool:
        """Let what was not used for longest leave; False if everything is in use."""
        idle = next((r for r in self._inside if not r.n_users), None)
        if idle is not None:
            self.evict(idle)
        return idle is not None

    def evict(self, resident: CachedSequence) -> None:
        """Take something out of the cache; does nothing if it is not there."""
        if resident.seq_id is not None:
            self._inside.remove(resident)
            self.release([resident.seq_id])
            resident.seq_id = None
