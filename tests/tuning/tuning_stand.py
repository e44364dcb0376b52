"""A stand-in for what opens and times settings: speeds and scores are given, and the clock goes by them alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aesedge.config.plan import Settings
from aesedge.tuning.candidates import Conditions
from aesedge.tuning.comparison import TimedStep, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aesedge.tuning.comparison import Phase

START = Settings(
    vision="fp32",
    vision_device="auto",
    kv_type="f16",
    gpu_layers="auto",
    repack=False,
    flash_attention=True,
    n_ubatch=256,
    threads=2,
    threads_batch=2,
    threads_vision=2,
)
HARDWARE = Conditions(n_logical=16, n_physical=8, has_gpu=False, is_small=False, repacks=True)
BIG = Workload(n_image=576, n_question=60, n_photos=2)


@dataclass(eq=False)
class Side:
    stand: Stand
    settings: Settings

    @property
    def rates(self) -> Mapping[Phase, float]:
        return {phase: self.stand.unit_s(self.settings, phase) for phase in ("vision", "prefill", "decode")}

    def begin(self, photo: int) -> None:
        pass

    def run(self, step: TimedStep) -> float:
        seconds = step.n * self.stand.unit_s(self.settings, step.phase) * self.stand.weather()
        self.stand.now += seconds
        self.stand.log.append((self.settings, step))
        return seconds

    def score(self) -> float:
        self.stand.now += self.stand.work.n_question * self.stand.unit_s(self.settings, "prefill")
        return self.stand.score(self.settings)


@dataclass
class Stand:
    """See :class:`aesedge.tuning.runners.Runners`."""

    unit_s: Callable[[Settings, Phase], float]
    score: Callable[[Settings], float] = lambda _settings: 5.0
    weather: Callable[[], float] = lambda: 1.0
    work: Workload = BIG
    opening: float = 1.0
    room: Callable[[Settings], bool] = lambda _settings: True
    both: bool = True
    sees_alike: bool = False
    now: float = 0.0
    log: list[tuple[Settings, TimedStep]] = field(default_factory=list)
    opened: set[tuple[str, Settings]] = field(default_factory=set)

    def open(self, part: str, wanted: Sequence[Settings]) -> list[Side]:
        assert self.both or len(wanted) == 1
        self.now += self.opening * sum((part, s) not in self.opened for s in wanted)
        self.opened = {(part, s) for s in wanted}
        return [Side(self, s) for s in wanted]

    def has_room(self, settings: Settings) -> bool:
        return self.room(settings)

    def together(self, part: str, base: Settings, variant: Settings) -> bool:
        return self.both

    def same_rows(self, one: Settings, other: Settings) -> bool:
        return self.sees_alike


def speeds(vision: float = 0.8, prefill: float = 0.035, decode: float = 0.1) -> dict[Phase, float]:
    """Seconds for a unit; by default as a 7B model on two cores."""
    return {"vision": vision, "prefill": prefill, "decode": decode}
