"""Compare two settings on the same steps, in turns: which one is faster by more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from aesedge.tuning.paired_runs import in_turns, ratio_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aesedge.config.profile import Purpose
    from aesedge.tuning.paired_runs import PairedRatio

Part = Literal["vision", "language"]
Phase = Literal["vision", "prefill", "decode"]
Rates = Mapping[Phase, float]
"""Seconds for a unit of each phase."""
Amounts = Mapping[Phase, float]
"""Units of each phase that a photo takes."""
UNITS: Mapping[Phase, str] = {"vision": "photos", "prefill": "rows", "decode": "tokens"}
"""What a phase is counted in."""

MARGIN = 0.03
"""Share of the time that a variant must save to win."""
MARGIN_APART = 0.10
"""The same where memory had no room for both, and they could not take turns."""
LEAST_PAIRS = 3
"""Turns of each phase that a winner must have."""
SCORE_TOLERANCE = 0.05
"""Points of 10 that all settings together may move a score, against the defaults with the most precise vision graph.

Half of the last digit that is shown. What llama.cpp changes by itself in other batches is a tenth of that (``aesedge
doctor --reuse``), and rounding a model to Q8_0 about as much.
"""
LEAST_ROWS = 64
"""Rows in a batch, at least: with fewer, llama.cpp's flash attention on the CPU computes differently."""
_N_CRITIQUE_TOKENS = 150
_DEEP_ROWS = 128
_N_BLOCKS = 4
_LEAST_DECODED, _MOST_DECODED = 8, 64
_ONE_STEP_S = 1.0
_MOST_ROUNDS = 50
_LOST = 1.15
"""A variant that is slower than this in the first round gets no second."""
_TIE = 0.015


class NoTimeError(Exception):
    """Something would not end in time, or did not."""


class TimedStep(NamedTuple):
    """One thing to time: a photo in the tower, rows of an image, or decoded tokens."""

    phase: Phase
    n: int = 1


class Runner(Protocol):
    """An open tower or language model that can be timed."""

    rates: Rates
    """As they were when it was opened."""

    def begin(self, photo: int) -> None:
        """Begin with a photo."""

    def run(self, step: TimedStep) -> float:
        """Do a step; return seconds.

        Raises:
            NoTimeError: time was over before it was done.
        """

    def score(self) -> float:
        """Ask the rating question about the rows of the photo so far; return the score, 0 to 10."""


@dataclass(frozen=True)
class Workload:
    """The work for one photo."""

    n_image: int
    """Rows of an image."""
    n_question: int
    """Tokens of the rating question."""
    n_photos: int
    """Photos to measure with."""

    def amounts(self, purpose: Purpose) -> dict[Phase, float]:
        """Return how many units of each phase a photo takes."""
        n_decoded = _N_CRITIQUE_TOKENS if purpose == "critique" else 0
        return {"vision": 1, "prefill": self.n_image + self.n_question, "decode": n_decoded}


def language_round(
    n_image: int, rates: Rates, seconds: float, *, decodes: bool, prefills: bool = True, whole_batches: bool = False
) -> list[TimedStep]:
    """Return the steps of a round that takes about the given time on one side, or of the shortest useful one.

    Args:
        n_image: rows of an image.
        rates: seconds for a row, and for a decoded token.
        seconds: for one side.
        decodes: whether tokens are decoded; they get a quarter of the time.
        prefills: whether an image is prefilled.
        whole_batches: whether an image is prefilled at once, and not in short pieces that take turns.
    """
    decode: list[TimedStep] = []
    if decodes:
        n = seconds / (4 if prefills else 1) / rates["decode"]
        n_decoded = int(min(_MOST_DECODED, max(_LEAST_DECODED, n)))
        decode = [TimedStep("decode", n_decoded // _N_BLOCKS)] * _N_BLOCKS
        seconds -= n_decoded * rates["decode"]
    if not prefills:
        return decode
    n_rows = max(LEAST_ROWS, int(seconds / rates["prefill"]))
    if n_rows >= n_image or whole_batches:
        n_rows = n_image
    if whole_batches or n_rows * rates["prefill"] <= _ONE_STEP_S:
        return [TimedStep("prefill", n_rows), *decode]
    # A small remainder would be a batch of few rows: it goes to the last piece.
    n_pieces = max(1, n_rows // LEAST_ROWS)
    n_last = n_rows - (n_pieces - 1) * LEAST_ROWS if n_rows == n_image else LEAST_ROWS
    return [*[TimedStep("prefill", LEAST_ROWS)] * (n_pieces - 1), TimedStep("prefill", n_last), *decode]


def rows_of(steps: Sequence[TimedStep]) -> int:
    """Return the rows of an image that steps prefill."""
    return sum(step.n for step in steps if step.phase == "prefill")


def is_deep(steps: Sequence[TimedStep], n_image: int) -> bool:
    """Whether steps tell something about what depends on the number of cells in the cache."""
    return rows_of(steps) >= min(_DEEP_ROWS, n_image)


class Verdict(NamedTuple):
    """How a variant compares, for one purpose."""

    ratio: float
    """Its time for a photo as a share of the other side's: below 1 is faster."""
    noise: float
    """Typical distance of single turns from that."""
    n_pairs: int
    """Turns of the phase that has fewest."""

    def wins(self, margin: float = MARGIN) -> bool:
        """Whether it is faster by more than chance."""
        return self.n_pairs >= LEAST_PAIRS and 1 - self.ratio > max(margin, self.noise)

    @property
    def is_clear(self) -> bool:
        """Whether more turns would hardly change it."""
        far = abs(1 - self.ratio)
        decided = far > max(MARGIN, 2 * self.noise) or (far < _TIE and self.noise < MARGIN)
        return self.n_pairs >= LEAST_PAIRS and decided


@dataclass
class Samples:
    """Times of both sides, turn by turn, in seconds for a unit."""

    pairs: dict[Phase, list[tuple[float, float]]] = field(default_factory=dict)
    seconds: float = 0.0
    """Time of both sides in all."""

    def add(self, step: TimedStep, base_s: float, variant_s: float) -> None:
        """Keep a turn."""
        self.seconds += base_s + variant_s
        pair = max(base_s, 1e-9) / step.n, max(variant_s, 1e-9) / step.n
        self.pairs.setdefault(step.phase, []).append(pair)

    def unit_s(self, phase: Phase) -> tuple[float, float]:
        """Return both sides' seconds for a unit."""
        base, variant = zip(*self.pairs[phase], strict=True)
        return median(base), median(variant)

    def ratio(self, phase: Phase) -> PairedRatio:
        """Return the variant's time as a share of the other's."""
        return ratio_of(self.pairs[phase])

    def verdict(self, amounts: Amounts) -> Verdict | None:
        """Weigh the phases as a photo needs them; None as long as one of them was not timed."""
        wanted = {phase: n for phase, n in amounts.items() if n}
        if not wanted or not all(self.pairs.get(phase) for phase in wanted):
            return None
        before = {phase: n * self.unit_s(phase)[0] for phase, n in wanted.items()}
        shares = [(before[phase] / sum(before.values()), self.ratio(phase)) for phase in wanted]
        return Verdict(
            sum(share * found.ratio for share, found in shares),
            sum(share * found.noise for share, found in shares),
            min(len(self.pairs[phase]) for phase in wanted),
        )


def side_by_side(
    sides: Sequence[Runner],
    steps: Sequence[TimedStep],
    purposes: Sequence[Amounts],
    has_time: Callable[[TimedStep], bool],
    *,
    n_photos: int,
    least_s: float,
    most_s: float,
) -> Samples:
    """Let two sides take turns until it is clear which is faster for each purpose, or time is over.

    At least ``least_s`` seconds are measured unless the variant has lost at once; after ``most_s`` it stops as soon as
    there are enough turns. Every round takes another photo.
    """
    base, variant = sides
    samples = Samples()

    def verdicts() -> list[Verdict | None]:
        return [samples.verdict(amounts) for amounts in purposes]

    def one_round() -> Iterator[TimedStep]:
        for step in steps:
            has_enough = all(v is not None and v.n_pairs >= LEAST_PAIRS for v in verdicts())
            if not has_time(step) or (has_enough and samples.seconds >= most_s):
                raise NoTimeError
            yield step

    def rounds() -> Iterator[Iterator[TimedStep]]:
        for i in range(_MOST_ROUNDS):
            for side in sides:
                side.begin(i % n_photos)
            yield one_round()
            found = verdicts()
            has_lost = all(v is not None and v.ratio >= _LOST for v in found)
            if has_lost or (samples.seconds >= least_s and all(v is not None and v.is_clear for v in found)):
                return

    with suppress(NoTimeError):
        for step, base_s, variant_s in in_turns(rounds(), base.run, variant.run):
            samples.add(step, base_s, variant_s)
    return samples


def one_after_the_other(
    opened: Sequence[Callable[[], Runner]], steps: Sequence[TimedStep], has_time: Callable[[TimedStep], bool]
) -> Samples:
    """Time one side and then the other, ``LEAST_PAIRS`` rounds each, where memory has no room for both."""
    samples, times = Samples(), list[list[float]]()
    with suppress(NoTimeError):
        for open_one in opened:
            side = open_one()
            times.append([])
            for _ in range(LEAST_PAIRS):
                side.begin(0)
                for step in steps:
                    if not has_time(step):
                        raise NoTimeError
                    times[-1].append(side.run(step))
    if len(times) == len(opened):
        for step, base_s, variant_s in zip(list(steps) * LEAST_PAIRS, *times, strict=False):
            samples.add(step, base_s, variant_s)
    return samples


def drift(scores: Sequence[tuple[float, float]]) -> float | None:
    """Return the largest change of a score, in points; None where none was read."""
    changes = [abs(one - other) for one, other in scores]
    # Unlike max(), this keeps NaN.
    return next((c for c in changes if c != c), max(changes)) if changes else None  # noqa: PLR0124


def is_tolerable(points: float) -> bool:
    """Whether scores may move so far; NaN is never tolerable."""
    return points <= SCORE_TOLERANCE
