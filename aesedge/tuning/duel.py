"""Two ways taking turns on the same steps, and whether one is faster by more than chance; knows times, not settings.

Other programs and the machine's temperature make everything slower now and then, for longer than a step. So both sides
do each step right after one another, now the one first and now the other, and what counts is the ratio of the two: its
median, and as noise the median distance from it, or the largest one where there are few turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aesedge.tuning.steps import PHASE_OF

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from aesedge.tuning.steps import Done, Phase, Step

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
_FEW_PAIRS = 6
"""With fewer turns, one that was disturbed can be half of what is known."""
MOST_ROUNDS = 50
_LOST = 1.15
"""Slower than that in the first round: there is no need of a second."""
_TIE = 0.015


class NoTimeError(Exception):
    """Something would not end in time, or did not."""


class Subject(Protocol):
    """Something that can be timed."""

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

    def ratio(self, phase: Phase) -> tuple[float, float]:
        """Return the variant's time as a share of the other's, and how noisy that is."""
        ratios = [variant / base for base, variant in self.pairs[phase]]
        middle = median(ratios)
        distances = [abs(ratio - middle) for ratio in ratios]
        return middle, max(distances) if len(ratios) < _FEW_PAIRS else median(distances)

    def verdict(self, amounts: Amounts) -> Verdict | None:
        """Put the phases together as a photo needs them; None as long as one of them was not timed.

        Args:
            amounts: the phases that the change is about, and how many units of each a photo takes.
        """
        wanted = {phase: n for phase, n in amounts.items() if n}
        if not wanted or not all(self.pairs.get(phase) for phase in wanted):
            return None
        before = {phase: n * self.unit_s(phase)[0] for phase, n in wanted.items()}
        ratios = {phase: self.ratio(phase) for phase in wanted}
        whole = sum(before.values())
        return Verdict(
            sum(before[phase] * ratio for phase, (ratio, _) in ratios.items()) / whole,
            sum(before[phase] * noise for phase, (_, noise) in ratios.items()) / whole,
            min(len(self.pairs[phase]) for phase in wanted),
        )


def least_steps(program: Program, phases: Collection[Phase]) -> list[Step]:
    """Return the steps without which nobody can win: ``LEAST_PAIRS`` of each phase."""
    found: list[Step] = []
    counts = dict.fromkeys(phases, 0)
    for i in range(LEAST_PAIRS):
        for step in program(i):
            if min(counts.values()) >= LEAST_PAIRS:
                return found
            found.append(step)
            phase = PHASE_OF.get(step.kind)
            if phase in counts:
                counts[phase] += 1
    return found


def interleaved(
    base: Subject,
    variant: Subject,
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
    for i in range(MOST_ROUNDS):
        for j, step in enumerate(program(i)):
            verdicts = [samples.verdict(amounts) for amounts in purposes]
            has_enough = all(v is not None and v.n_pairs >= LEAST_PAIRS for v in verdicts)
            if not has_time(step) or (has_enough and samples.seconds >= most_s):
                return samples
            sides = (variant, base) if (i + j) % 2 else (base, variant)
            try:
                done = {side: side.run(step) for side in sides}
            except NoTimeError:
                return samples
            samples.add(step, done[base], done[variant])
        verdicts = [samples.verdict(amounts) for amounts in purposes]
        has_lost = all(v is not None and v.ratio >= _LOST for v in verdicts)
        if has_lost or (samples.seconds >= least_s and all(map(_is_clear, verdicts))):
            break
    return samples


def one_after_the_other(
    open_base: Callable[[], Subject],
    open_variant: Callable[[], Subject],
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


def _is_clear(verdict: Verdict | None) -> bool:
    if verdict is None or verdict.n_pairs < LEAST_PAIRS:
        return False
    far = abs(1 - verdict.ratio)
    return far > max(MARGIN, 2 * verdict.noise) or (far < _TIE and verdict.noise < MARGIN)
