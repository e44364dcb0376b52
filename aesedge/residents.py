"""Which images are in the KV cache, and who may use its sequences; knows rows and tokens, not photos or questions.

The text before the image is the same for all: it is prefilled once, and every image continues from it. An image that
has to leave for lack of room comes back by itself, from its embeddings, when it is needed again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aesedge.errors import ContextFullError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from aesedge.llm import Context

N_SEQ_MAX = 64  # sequences cost llama.cpp next to nothing in a unified cache
_PREFIX_SEQ = 0


class ResidentImage:
    """An image that is, was or will be in the KV cache."""

    def __init__(self, rows: npt.NDArray[np.float32]) -> None:
        self.rows = rows
        """Image embeddings, float32 [n_image_tokens, n_embd]."""
        self.seq_id: int | None = None


class Residents:
    """The sequences of one context.

    Args:
        context: an empty KV cache; whoever made it closes it.
        prefix: tokens before every image, BOS first.
        n_room: positions to keep free beside an image, for what will be asked of it.
    """

    def __init__(self, context: Context, prefix: Sequence[int], *, n_room: int) -> None:
        self.context = context
        self.n_prefix = len(prefix)
        self._n_room = n_room
        self._free_seq_ids = list(range(context.n_seq_max - 1, _PREFIX_SEQ, -1))
        self._images: list[ResidentImage] = []  # least recently used first
        context.prefill_tokens(_PREFIX_SEQ, prefix)

    def sequence_of(self, image: ResidentImage) -> int:
        """Return the sequence that holds the image; prefill it if it is not there, evicting others for room."""
        if image.seq_id is None:
            while self._images and self.context.n_free < len(image.rows) + self._n_room:
                self.evict(self._images[0])
            (image.seq_id,) = self.take(1)
            try:
                self.context.fork(_PREFIX_SEQ, image.seq_id)
                self.context.prefill_embeddings(image.seq_id, image.rows)
            except BaseException:
                self.give_back([image.seq_id])
                image.seq_id = None
                raise
        else:
            self._images.remove(image)
        self._images.append(image)
        return image.seq_id

    @contextmanager
    def forks(self, image: ResidentImage, n: int) -> Iterator[list[int]]:
        """Yield n sequences that begin with the image; they are emptied at the end."""
        source = self.sequence_of(image)
        seq_ids = self.take(n)
        try:
            for seq_id in seq_ids:
                self.context.fork(source, seq_id)
            yield seq_ids
        finally:
            self.give_back(seq_ids)

    def take(self, n: int) -> list[int]:
        """Take empty sequences; ``give_back`` returns them."""
        if n > len(self._free_seq_ids):
            raise ContextFullError(
                f"{n} sequences are wanted, {len(self._free_seq_ids)} are free; close photos and conversations "
                "that are done with"
            )
        return [self._free_seq_ids.pop() for _ in range(n)]

    def give_back(self, seq_ids: Sequence[int]) -> None:
        """Empty sequences and let others have them."""
        for seq_id in seq_ids:
            if self.context.is_open:
                self.context.truncate(seq_id, 0)
            self._free_seq_ids.append(seq_id)

    @property
    def n_sequences_free(self) -> int:
        """Sequences that nobody has."""
        return len(self._free_seq_ids)

    def evict(self, image: ResidentImage) -> None:
        """Take an image out of the cache; does nothing if it is not there."""
        if image.seq_id is not None:
            self._images.remove(image)
            self.give_back([image.seq_id])
            image.seq_id = None
