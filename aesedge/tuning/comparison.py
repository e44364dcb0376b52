"""Compare two settings on the same steps, in turns: which one is faster by more than chance."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aesedge.tuning.paired_runs import in_turns, ratio_of
from aesedge.tuning.steps import PHASE_OF

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from aesedge.tuning.paired_runs import Ratio
    from aesedge.tuning.steps import Done, Phase, Rates, Step

    Amounts = Mapping[Phase, float]
    """Units of each phase that a photo takes."""
    Program = Callable[[int], Sequence[Step]]
    """The steps of each round."""

MARGIN = 0.03
"""What a variant must save to win; less is not worth leaving what is well known."""
MARGIN_APART = 0.10
"""The same where memory had no room for both, and they could not take turns."""
LEAST_PAIRS = 3
"""Turns of each phase, without which nobody wins."""
_MOST_ROUNDS = 50
_LOST = 1.15
"""Slower than that in the first round: there is no need of a second."""
_TIE = 0.015
SCORE_TOLERANCE = 0.05
"""Points of 10 that all settings together may move a score, against the defaults with the most precise vision graph.

Half of the last digit that is shown: what is printed changes only where the score stood between two digits. What
llama.cpp changes by itself when it computes the same in other batches is a tenth of that (``aesedge doctor --cache``),
and rounding a model to Q8_0 about as much.
"""


class NoTimeError(Exception):
    """Something would not end in time, or did not."""


class Runner(Protocol):
    """Something that can be timed."""

    rates: Rates
    """Seconds for a unit of each phase, as they were when it was opened."""

    def run(self, step: Step) -> Done:
        """Do a step.

        Raises:
            NoTimeError: time was over before it was done.
        """


class Verdict(NamedTuple):
    """How a variant compares, for one purpose."""

    ratio: float
    """Its time for a photo, as a share of the other side's: below 1 is faster."""
    noise: float
    """How far single turns are from that, typically."""
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
    """What two sides took, turn by turn, in seconds for a unit."""

    pairs: dict[Phase, list[tuple[float, float]]] = field(default_factory=dict)
    scores: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    """What was timed, on both sides."""

    def add(self, step: Step, base: Done, variant: Done) -> None:
        """Keep a turn."""
        self.seconds += base.seconds + variant.seconds
        if step.kind != "begin":
            seconds = max(base.seconds, 1e-9) / step.n, max(variant.seconds, 1e-9) / step.n
            self.pairs.setdefault(PHASE_OF[step.kind], []).append(seconds)
        if base.score is not None and variant.score is not None:
            self.scores.append((base.score, variant.score))

    def unit_s(self, phase: Phase) -> tuple[float, float]:
        """Return both sides' seconds for a unit."""
        base, variant = zip(*self.pairs[phase], strict=True)
        return median(base), median(variant)

    def ratio(self, phase: Phase) -> Ratio:
        """Return the variant's time as a share of the other's, and how noisy that is."""
        return ratio_of(self.pairs[phase])

    def verdict(self, amounts: Amounts) -> Verdict | None:
        """Put the phases together as a photo needs them; None as long as one of them was not timed.

        Args:
            amounts: the phases that the change is about, and how many units of each a photo takes.
        """
        wanted = {phase: n for phase, n in amounts.items() if n}
        if not wanted or not all(self.pairs.get(phase) for phase in wanted):
            return None
        before = {phase: n * self.unit_s(phase)[0] for phase, n in wanted.items()}
        whole = sum(before.values())
        shares = [(before[phase] / whole, self.ratio(phase)) for phase in wanted]
        return Verdict(
            sum(share * found.ratio for share, found in shares),
            sum(share * found.noise for share, found in shares),
            min(len(self.pairs[phase]) for phase in wanted),
        )


def least_steps(program: Program, phases: Collection[Phase]) -> list[Step]:
    """Return the steps without which nobody can win: ``LEAST_PAIRS`` of each phase."""
    found: list[Step] = []
    counts = dict.fromkeys(phases, 0)
    for step in (step for i in range(LEAST_PAIRS) for step in program(i)):
        if min(counts.values()) >= LEAST_PAIRS:
            break
        found.append(step)
        phase = PHASE_OF.get(step.kind)
        if phase in counts:
            counts[phase] += 1
    return found


def side_by_side(
    base: Runner,
    variant: Runner,
    program: Program,
    purposes: Sequence[Amounts],
    has_time: Callable[[Step], bool],
    *,
    least_s: float,
    most_s: float,
) -> Samples:
    """Let two sides take turns until it is clear who is faster for each purpose, or time is over.

    Args:
        base: one side.
        variant: the other.
        program: the steps of each round.
        purposes: for each, how much of what matters a photo takes.
        has_time: whether there is time for a step, on both sides.
        least_s: time that is measured in any case, unless the variant has lost at once; one round can be shorter than
            what others do meanwhile.
        most_s: when to stop if it does not become clear, and as soon as somebody could win.
    """
    samples = Samples()

    def verdicts() -> list[Verdict | None]:
        return [samples.verdict(amounts) for amounts in purposes]

    def steps(i: int) -> Iterator[Step]:
        for step in program(i):
            has_enough = all(v is not None and v.n_pairs >= LEAST_PAIRS for v in verdicts())
            if not has_time(step) or (has_enough and samples.seconds >= most_s):
                raise NoTimeError
            yield step

    def rounds() -> Iterator[Iterator[Step]]:
        for i in range(_MOST_ROUNDS):
            yield steps(i)
            found = verdicts()
            has_lost = all(v is not None and v.ratio >= _LOST for v in found)
            if has_lost or (samples.seconds >= least_s and all(v is not None and v.is_clear for v in found)):
                return

    try:
        for step, ours, theirs in in_turns(rounds(), base.run, variant.run):
            samples.add(step, ours, theirs)
    except NoTimeError:
        pass
    return samples


def one_after_the_other(
    open_base: Callable[[], Runner],
    open_variant: Callable[[], Runner],
    steps: Sequence[Step],
    has_time: Callable[[Step], bool],
) -> Samples:
    """Time one side and then the other, where memory has no room for both."""
    samples = Samples()
    base = open_base()
    found = [(step, base.run(step)) for step in steps if has_time(step)]
    variant = open_variant()
    for step, done in found:
        if not has_time(step):
            break
        try:
            samples.add(step, done, variant.run(step))
        except NoTimeError:
            break
    return samples


def drift(scores: Sequence[tuple[float, float]]) -> float | None:
    """Return the largest change of a score, in points; None where none was read."""
    changes = [abs(one - other) for one, other in scores]
    # Unlike max(), this keeps what is no number.
    return next((c for c in changes if c != c), max(changes)) if changes else None  # noqa: PLR0124


def is_tolerable(points: float) -> bool:
    """Whether scores may move so far; a score that is no number never may."""
    return points <= SCORE_TOLERANCE
