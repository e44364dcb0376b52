"""What work asks of the language model, and how urgent it is; knows sequences, tokens and rows, not who grants it.

Work is a generator: it yields what it wants (:class:`DecodeTokens`, :class:`PrefillEmbeddings`, :class:`Reserve`, or
:class:`WaitFor`) and gets the answer when it is there. Who runs it is the ``scheduler``.
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
    """Who goes first."""

    INTERACTIVE = 0
    """Somebody waits for this answer."""
    BATCH = 1
    """One of many photos."""


class Slice(NamedTuple):
    """What one sequence gets in one batch."""

    seq_id: int
    rows: Any
    """Tokens, or embeddings."""
    is_end: bool
    """Whether they end their part."""


@dataclass
class _Parts:
    """Pairs of sequence and what is appended to it, one row or more each, and how far that is."""

    parts: Sequence[tuple[int, Any]]
    n_done: int = 0

    @property
    def n_rows(self) -> int:
        """Rows in all."""
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
    """Tokens for sequences.

    The answer is the batch's row of the last token (one part), for a sampler, good until the work yields again; with
    ``fetch`` it is the logits after each part, float32 [n_parts, n_vocab].
    """

    fetch: bool = False
    logits: list[npt.NDArray[np.float32]] = field(default_factory=list)


@dataclass
class PrefillEmbeddings(_Parts):
    """Embeddings for sequences, float32 [n, n_embd] each; the answer is None."""


@dataclass
class Reserve:
    """Empty sequences, and cells for what will be appended; the answer is the sequences' ids.

    Cells that were reserved for this work before, and not used, are free again.
    """

    n_sequences: int
    n_cells: int


@dataclass
class WaitFor:
    """Wait for other work; the answer is None once the condition holds."""

    holds: Callable[[], bool]


Request = DecodeTokens | PrefillEmbeddings | Reserve | WaitFor
Job = Generator[Request, Any, T]


class Preempted(Exception):  # noqa: N818 (no error: the work goes on later)
    """Thrown into work that must make room: what it appended is to go, and to be appended again after new room."""
