"""Allocate the sequences of a KV cache to images and conversations, and evict the least recently used.

All images continue from one prefix, the text before the image, which is prefilled once. What was evicted is loaded
again when it is needed. Everything here runs on the scheduler's thread.
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
    """An entry that owns one KV sequence while it is resident."""

    def __init__(self) -> None:
        self.seq_id: int | None = None
        self.n_users = 0
        """Number of running jobs that use it; it is not evicted while there are any."""
        self.loading = False
        """Whether a job is loading it."""

    def is_resident(self) -> bool:
        """Whether it is in the KV cache now; every request of a job may change that."""
        return self.seq_id is not None


class CachedImage(CachedSequence):
    """An image in the KV cache.

    Args:
        rows: returns its embeddings, float32 [n_image_tokens, n_embd].
        n_rows: n_image_tokens.
        restore: loads its KV state from disk into an empty sequence; returns whether there was one. None where it was
            not kept.
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
        """Whether :attr:`restore` loaded it the last time."""


class SequenceCache:
    """The sequences of one context.

    Args:
        context: an empty KV cache; the caller closes it.
        n_prefix: tokens before every image.
    """

    def __init__(self, context: Context, n_prefix: int) -> None:
        self.context = context
        self.n_prefix = n_prefix
        self._free_seq_ids = list(range(context.n_seq_max - 1, _PREFIX_SEQ, -1))
        self._resident_entries: list[CachedSequence] = []  # least recently used first

    def prefill_prefix(self, prefix: Sequence[int]) -> Job[None]:
        """Prefill the text before every image."""
        yield DecodeTokens([(_PREFIX_SEQ, prefix)])

    @property
    def prefix_seq_id(self) -> int:
        """Sequence id of the text before every image."""
        return _PREFIX_SEQ

    def n_positions(self, image: CachedImage) -> int:
        """Return the positions of an image and of the text before it."""
        return self.n_prefix + image.n_rows

    @property
    def n_cells(self) -> int:
        """KV cells for images and questions."""
        return self.context.n_ctx - self.n_prefix

    def acquire(self, image: CachedImage, *, n_forks: int = 0, n_cells: int = 0) -> Job[tuple[list[int], bool]]:
        """Load an image if it is not resident, and reserve room for questions about it.

        Both are reserved in one request, and the image may be evicted while the job waits for it: jobs that hold an
        image while they wait for cells would block each other.

        Args:
            image: the image; use :meth:`pinned` while it is needed afterwards.
            n_forks: number of sequences to create as copies of the image; ``release`` returns them.
            n_cells: cells that will be appended to them in all.

        Returns:
            The forks' sequence ids, and whether the image was loaded.
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
        """Load several images that no other job uses yet; their embeddings share batches.

        Args:
            images: the images; use :meth:`pinned` while they are needed afterwards.
            n_forks: number of sequences to create as copies of each; ``release`` returns them.
            n_cells: cells that will be appended to those of each image in all.

        Returns:
            The forks' sequence ids, for each image.
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
                    if image.n_rows:  # a conversation without a photo continues from the prefix alone
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
    def pinned(self, entry: CachedSequence) -> Iterator[None]:
        """Keep an entry from being evicted."""
        entry.n_users += 1
        try:
            yield
        finally:
            entry.n_users -= 1

    def attach(self, entry: CachedSequence, seq_id: int) -> None:
        """Give an entry its sequence, until it is evicted."""
        entry.seq_id = seq_id
        self._resident_entries.append(entry)

    def _touch(self, entry: CachedSequence) -> None:
        self._resident_entries.remove(entry)
        self._resident_entries.append(entry)

    def allocate(self, n: int) -> list[int]:
        """Return ids of empty sequences; ``release`` returns them."""
        if n > len(self._free_seq_ids):
            raise ContextFullError(f"{n} sequences are wanted, {len(self._free_seq_ids)} are free")
        return [self._free_seq_ids.pop() for _ in range(n)]

    def release(self, seq_ids: Sequence[int]) -> None:
        """Empty sequences and make them available again."""
        for seq_id in seq_ids:
            if self.context.is_open:
                self.context.truncate(seq_id, 0)
            self._free_seq_ids.append(seq_id)

    @property
    def n_sequences_free(self) -> int:
        """Number of sequences that can be allocated."""
        return len(self._free_seq_ids)

    def evict_one(self) -> bool:
        """Evict the least recently used entry; return False if all are in use."""
        idle = next((r for r in self._resident_entries if not r.n_users), None)
        if idle is not None:
            self.evict(idle)
        return idle is not None

    def evict(self, entry: CachedSequence) -> None:
        """Remove an entry from the KV cache; does nothing if it is not resident."""
        if entry.seq_id is not None:
            self._resident_entries.remove(entry)
            self.release([entry.seq_id])
            entry.seq_id = None
