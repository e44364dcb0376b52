"""What a search needs of whoever opens and times settings; knows neither of the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from aesedge.tuning.steps import Phase

if TYPE_CHECKING:
    from aesedge.profile import Settings
    from aesedge.tuning.duel import Subject
    from aesedge.tuning.steps import Workload

Part = Literal["vision", "language"]
Rates = Mapping[Phase, float]
"""Seconds for a unit of each phase."""


class Opener(Protocol):
    """Opens and times settings, and knows what fits memory; see :class:`aesedge.tuning.laboratory.Laboratory`."""

    @property
    def work(self) -> Workload:
        """How much of everything a photo takes."""

    def subjects(self, part: Part, wanted: Sequence[Settings]) -> Sequence[Subject]:
        """Open what is wanted, and close the rest."""

    def rates(self, part: Part, settings: Settings) -> Rates:
        """Return what was found while opening."""

    def opening_s(self, part: Part, settings: Settings, unit_s: float) -> float:
        """Return about how long opening takes."""

    def has_room(self, settings: Settings) -> bool:
        """Whether settings fit memory."""

    def together(self, part: Part, base: Settings, variant: Settings) -> bool:
        """Whether both can be open at once."""

    def same_rows(self, one: Settings, other: Settings) -> bool:
        """Whether two towers see the same."""
