"""Cut the work for a photo into steps that are timed, as many as a machine has time for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from aesedge.llm.limits import even_ubatch

if TYPE_CHECKING:
    from aesedge.config.profile import Purpose

Part = Literal["vision", "language"]
Phase = Literal["vision", "prefill", "decode"]
Rates = Mapping[Phase, float]
"""Seconds for a unit of each phase."""
Kind = Literal["see", "begin", "rows", "question", "decode"]
PHASE_OF: Mapping[Kind, Phase] = {"see": "vision", "rows": "prefill", "question": "prefill", "decode": "decode"}
UNITS: Mapping[Phase, str] = {"vision": "photos", "prefill": "rows", "decode": "tokens"}
"""What a phase is counted in; a token of a question counts as a row."""
N_CRITIQUE_TOKENS = 150
"""Tokens of a critique, as far as its time is concerned."""
LEAST_ROWS = 64
"""Rows in a batch, at least: with fewer, llama.cpp's flash attention on the CPU goes another way than with an image."""
_DEEP_ROWS = 128
_N_BLOCKS = 4
_LEAST_DECODED, _MOST_DECODED = 8, 64
_ONE_STEP_S = 1.0


class Step(NamedTuple):
    """One thing to do and, but for ``begin``, to time."""

    kind: Kind
    n: int = 1
    """Rows or tokens; what the time is divided by."""
    photo: int = 0
    start: int = 0
    """The first of the rows."""


class Done(NamedTuple):
    """What came of a step."""

    seconds: float
    score: float | None = None
    """0 to 10, after a rating question."""


@dataclass(frozen=True)
class Workload:
    """How much of everything there is to do for one photo."""

    n_image: int
    """Rows of an image."""
    n_question: int
    """Tokens of the rating question."""
    n_photos: int
    """Photos that are there to measure with."""

    def amounts(self, purpose: Purpose) -> dict[Phase, float]:
        """Return how many units of each phase a photo takes."""
        n_decoded = N_CRITIQUE_TOKENS if purpose == "critique" else 0
        return {"vision": 1, "prefill": self.n_image + self.n_question, "decode": n_decoded}


@dataclass(frozen=True)
class Pass:
    """One round of steps, of a length that suits the machine."""

    n_rows: int
    n_step: int
    """Rows between one turn and the next."""
    n_decoded: int

    def steps(self, work: Workload, i: int) -> list[Step]:
        """Return the steps of round i; every round takes another photo."""
        photo = i % work.n_photos
        rows = [Step("rows", min(self.n_step, self.n_rows - a), photo, a) for a in range(0, self.n_rows, self.n_step)]
        question = Step("question", work.n_question, photo)
        n_block = max(1, self.n_decoded // _N_BLOCKS)
        decode = [Step("decode", n_block, photo) for _ in range(_N_BLOCKS if self.n_decoded else 0)]
        return [Step("begin", photo=photo), *rows, question, *decode]


def language_pass(work: Workload, rates: Rates, seconds: float, *, decodes: bool, whole_batches: bool = False) -> Pass:
    """Return a pass that takes about so many seconds, or the shortest that still says something.

    Args:
        work: what there is in all.
        rates: seconds for a row, and for a decoded token.
        seconds: for one side.
        decodes: whether tokens are decoded too; they get a quarter of the time.
        whole_batches: whether an image is given as the engine gives it, and not in short pieces that take turns.
    """
    n_decoded = 0
    if decodes:
        n_decoded = int(min(_MOST_DECODED, max(_LEAST_DECODED, seconds / 4 / rates["decode"])))
        seconds -= n_decoded * rates["decode"]
    n_rows = max(LEAST_ROWS, int(seconds / rates["prefill"]) - work.n_question)
    if n_rows >= work.n_image or whole_batches:
        n_rows = work.n_image
    is_short = n_rows * rates["prefill"] <= _ONE_STEP_S
    n_step = n_rows if is_short or whole_batches else LEAST_ROWS
    if not is_short and n_rows > LEAST_ROWS:
        n_rows -= n_rows % n_step  # a remainder would be a batch of few rows
    return Pass(n_rows, n_step, n_decoded)


def is_deep(n_rows: int, work: Workload) -> bool:
    """Whether so many rows say something about what depends on how much is in the cache."""
    return n_rows >= min(_DEEP_ROWS, work.n_image)


def text_pass(rates: Rates, seconds: float) -> Pass:
    """Return a pass without an image, for what only decoding depends on."""
    n = seconds / rates["decode"]
    return Pass(0, 1, int(min(_MOST_DECODED, max(_LEAST_DECODED, n))))


def vision_steps(work: Workload, i: int) -> list[Step]:
    """Return the steps of round i for a tower."""
    return [Step("see", photo=i % work.n_photos)]


def same_batches(n_rows: int, one: int, other: int) -> bool:
    """Whether an image is cut alike by two sizes of batches."""
    return even_ubatch(n_rows, one) == even_ubatch(n_rows, other)
