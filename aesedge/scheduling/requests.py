"""What a job can request of the language model.

A job is a generator: it yields a request (:class:`DecodeTokens`, :class:`PrefillEmbeddings`, :class:`Reserve` or
:class:`WaitFor`) and receives the result when it is there. The scheduler runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aesedge.llm.limits import even_ubatch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

T = TypeVar("T")


class Priority(IntEnum):
    """Which jobs go first."""

    INTERACTIVE = 0
    """A caller waits for this answer."""
    BATCH = 1
    """One of many photos."""


class Slice(NamedTuple):
    """What is appended to one sequence in one batch."""

    seq_id: int
    rows: Any
    """Tokens, or embeddings."""
    is_end: bool
    """Whether they are the last ones of their part."""


@dataclass
class _Parts:
    """Pairs of sequence id and what is appended to it, at least one row each, and how many rows are done."""

    parts: Sequence[tuple[int, Any]]
    n_done: int = 0

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return sum(len(rows) for _, rows in self.parts)

    @property
    def n_left(self) -> int:
        """Rows that were not decoded yet."""
        return self.n_rows - self.n_done

    def n_next(self, n_ubatch: int) -> int:
        """Return how many rows are for the next batch."""
        return min(self.n_left, even_ubatch(self.n_rows, n_ubatch))

    def slices(self, n: int) -> list[Slice]:
        """Return the next n rows."""
        found = []
        begin, end = self.n_done, self.n_done + n
        for seq_id, rows in self.parts:
            piece = rows[max(0, begin) : max(0, end)]
            if len(piece):
                found.append(Slice(seq_id, piece, is_end=end >= len(rows)))
            begin, end = begin - len(rows), end - len(rows)
        return found


@dataclass
class DecodeTokens(_Parts):
    """Append tokens to sequences.

    The result is the index of the last token in the batch, for a sampler, valid until the next request; with ``fetch``
    it is the logits after each part, float32 [n_parts, n_vocab].
    """

    fetch: bool = False
    logits: list[npt.NDArray[np.float32]] = field(default_factory=list)


@dataclass
class PrefillEmbeddings(_Parts):
    """Append embeddings to sequences, float32 [n, n_embd] each; the result is None."""


@dataclass
class Reserve:
    """Reserve empty sequences, and KV cells for what will be appended; the result is the sequence ids.

    Cells that this job reserved before and did not use are free again.
    """

    n_sequences: int
    n_cells: int


@dataclass
class WaitFor:
    """Wait until a condition holds, which another job brings about; the result is None."""

    holds: Callable[[], bool]


Request = DecodeTokens | PrefillEmbeddings | Reserve | WaitFor
Job = Generator[Request, Any, T]


class Preempted(Exception):  # noqa: N818 (no error: the job continues later)
    """Raised in a job that must free its cells: it truncates its sequence, reserves cells, and appends all again."""
