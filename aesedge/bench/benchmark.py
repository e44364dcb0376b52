"""The parts of a run, in the order in which they need one another; knows what is done when, not how it is measured."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from aesedge.bench import quality
from aesedge.bench.baseline_runs import run_pairs
from aesedge.bench.ceilings import Ceilings, better, measure_ceilings
from aesedge.bench.fixture import NewPhotos, Stopwatch, Subject
from aesedge.bench.image_timing import image_tests
from aesedge.bench.kernels import require_kernels, time_kernels
from aesedge.bench.language_timing import language_tests, open_raw_timer
from aesedge.bench.peak_memory import PeakMemory
from aesedge.bench.photo_timing import photo_tests
from aesedge.bench.predict import predict
from aesedge.bench.result import Quality, Result, Row
from aesedge.bench.rounds import run_rounds
from aesedge.bench.run_info import add_shares, make_card
from aesedge.engine.completion import Writing
from aesedge.engine.model import Model
from aesedge.errors import UsageError
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import trim_heap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from aesedge.bench.baseline_runs import Pair
    from aesedge.bench.ceilings import Device
    from aesedge.bench.predict import MeasureTypes
    from aesedge.bench.result import Against
    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options

    Show = Callable[[float], None]
    Step = Callable[[Show], None]
    OpenBaseline = Callable[[Subject], AbstractContextManager["Baseline"]]

_MOST_LOADS, _LOADING_S = 3, 10.0
"""It is loaded again while this much time is left for it."""
_SLOW_S = 5.0
"""Where a photo takes longer, what is said is compared on one photo and the score question alone."""


class Baseline(Protocol):
    """Another program, open, that does the same work."""

    reference: str
    """Who it is, with version."""
    pairs: Sequence[Pair]
    """What both sides do."""
    left_out: str
    """What is not compared, and why; empty where everything is."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is measured, and for how long."""

    repetitions: int = 5
    """Of each row, where there is time."""
    seconds: float = 300.0
    """For all rows together; every row is measured once in any case."""
    quality: bool = True
    """Whether what is said is compared with the bundle's reference."""
    kernels: bool = False
    """Whether the native kernels are run too."""

    def __post_init__(self) -> None:
        if not 1 <= self.repetitions <= 1_000_000:
            raise UsageError(f"--repetitions {self.repetitions}: give 1 to 1000000")
        if not 0 < self.seconds <= 1e7:
            raise UsageError(f"--seconds {self.seconds:g}: give more than 0 and at most 10000000")


class Benchmark:
    """One run. Use it as a context manager, and run its steps one by one; what is measured stands in ``result``.

    Args:
        bundle: what is measured.
        options: how it is run; where things are kept is the benchmark's business, which keeps nothing.
        photos: what it is shown; none takes the samples.
        wanted: which rows, and how often.
        measure_types: times other types, to predict from.
        open_baseline: opens another program that does the same, in turns.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: Options,
        photos: Sequence[Path],
        wanted: Wanted,
        measure_types: MeasureTypes | None = None,
        open_baseline: OpenBaseline | None = None,
    ) -> None:
        for path in photos:
            if not path.is_file():
                raise UsageError(f"{path}: there is no such photo")
        if wanted.kernels:
            require_kernels("gpu" if options.device != "cpu" and gpu_devices() else "cpu")
        self.bundle = bundle
        self.options = dataclasses.replace(options, cache="0")
        self.photos = list(photos or SAMPLE_PHOTOS)
        self.wanted = wanted
        self._measure_types = measure_types
        self._open_baseline = open_baseline
        self.result: Result | None = None
        self._reference: quality.Reference | Quality | None = None
        self._against: dict[str, Against] = {}
        self._photo_s = 0.0
        self._rows: list[Row] = []
        self._stack = ExitStack()
        self._began = time.monotonic()

    def __enter__(self) -> Benchmark:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="aesedge-bench-")))
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def steps(self) -> list[tuple[str, Step]]:
        """Return what is to be done, each with its name; a step takes a function that hears how much of it is done."""
        steps: list[tuple[str, Step]] = [("loading", self._load)]
        if self.wanted.quality:
            steps.append(("asking the reference", self._ask_reference))
        steps += [("looking at the machine", self._look), ("measuring", self._measure)]
        if self.wanted.quality:
            steps.append(("comparing what is said", self._compare_quality))
        if self._open_baseline is not None:
            steps.append(("taking turns with libmtmd", self._take_turns))
        steps.append(("predicting", self._predict))
        if self.wanted.kernels:
            steps.append(("timing kernels", self._time_kernels))
        else:
            steps.append(("looking at the machine again", self._look_again))
        return steps

    def finish(self) -> Result | None:
        """Return what there is, with what follows from it; None where it was stopped before anything was known."""
        if self.result is not None:
            self.result.rows = [row for row in self._rows if row.samples_ns or row.n_bytes is not None]
            self.result.against = list(self._against.values())
            add_shares(self.result.rows, self.result.card)
            self.result.card.took_s = round(time.monotonic() - self._began, 1)
        return self.result

    def _load(self, show: Show) -> None:
        """Load it as users do, look at a photo, and see what that takes."""
        row = Row(
            test="load",
            group="load",
            excludes="reading the disk: the files were read before",
        )
        self._rows.append(row)
        left = _LOADING_S
        peak = PeakMemory()
        while True:
            watch = Stopwatch()
            with Model(self.bundle, self.options) as model:
                row.samples_ns.append(watch.sample().ns)
                left -= 2 * watch.seconds  # as long again, as far as is known
                if not row.n_warm_up:  # it read the disk, and wakes everything: no repetition
                    row.samples_ns.clear()
                    row.n_warm_up = 1
                    self._see(model)
                    self._rows += _memory_rows(peak)
            show(len(row.samples_ns) / _MOST_LOADS)
            if len(row.samples_ns) >= _MOST_LOADS or (left < 0 and row.samples_ns):
                break
        trim_heap()

    def _see(self, model: Model) -> None:
        watch = Stopwatch()
        with model.look(self.photos[0]) as photo:
            photo.score()
            self._photo_s = watch.seconds
            photo.critique(Writing(max_tokens=4)).read()

    def _ask_reference(self, show: Show) -> None:
        is_slow = self._photo_s > _SLOW_S
        photos = self.photos[:1] if is_slow else self.photos
        self._reference = quality.read_reference(
            self.bundle, self.options, photos=photos, attributes=not is_slow, progress=show
        )

    def _look(self, show: Show) -> None:
        """Open it with room for a photo more, and write the card."""
        self.model = self._stack.enter_context(Model(self.bundle, dataclasses.replace(self.options, photos=2)))
        show(0.3)
        wanted = self.wanted
        card = make_card(
            *(self.bundle, self.model.plan, self.photos, self.model),
            repetitions=wanted.repetitions,
            seconds=wanted.seconds,
        )
        self.result = Result(card=card, rows=self._rows)

    def _look_again(self, _show: Show) -> None:
        """Measure the ceilings once more: what disturbed them then may be over."""
        if self.result is not None:
            card = self.result.card
            again = measure_ceilings(self.model.plan.threads_batch, self._device)
            card.ceilings = msgspec.to_builtins(better(msgspec.convert(card.ceilings, Ceilings), again))

    @property
    def _device(self) -> Device:
        return "gpu" if self.model.n_gpu_layers else "cpu"

    def _measure(self, show: Show) -> None:
        subject = self._subject = Subject(self.model, self.photos, NewPhotos(self.photos, self._folder))
        self._stack.callback(subject.close)
        timer = self._stack.enter_context(open_raw_timer(subject))
        tests = [*image_tests(subject), *language_tests(subject, timer), *photo_tests(subject)]
        self._rows += [test.row for test in tests]
        run_rounds(tests, repetitions=self.wanted.repetitions, seconds=self.wanted.seconds, show=show)

    def _compare_quality(self, show: Show) -> None:
        if self.result is not None:
            found = self._reference
            self.result.quality = (
                quality.compare(found, self.model, progress=show) if isinstance(found, quality.Reference) else found
            )

    def _predict(self, show: Show) -> None:
        if self.result is not None:
            self.result.predictions, notes = predict(self.model, self._rows, self._measure_types, show)
            self.result.notes += notes

    def _time_kernels(self, show: Show) -> None:
        """Run the native kernels at the model's shapes; the tower's too, where those are known."""
        result, n_lines = self.result, 0

        def keep(found: dict[str, Any] | None) -> None:
            nonlocal n_lines
            n_lines += 1
            show(n_lines / (n_lines + 20))
            if found is not None and result is not None:
                result.kernels, result.card.ceilings = found, found["ceilings"]

        if result is not None:
            keep(time_kernels(self.model, self._device, result.card.ceilings, keep))

    def _take_turns(self, show: Show) -> None:
        if self._open_baseline is None or self.result is None:
            return
        with self._open_baseline(self._subject) as baseline:
            self.result.reference = baseline.reference
            self.result.notes += [f"against: {baseline.left_out}"] if baseline.left_out else []
            run_pairs(
                baseline.pairs,
                seconds=self.wanted.seconds,
                repetitions=self.wanted.repetitions,
                progress=show,
                rows=self._against,
            )


def _memory_rows(peak: PeakMemory) -> list[Row]:
    excludes = "other photos: it was loaded, and has scored one and written a few words"
    if not peak.began_anew:
        excludes += "; counted from the start of the process, which may have done other things"
    rows = [Row(test="peak RSS", group="memory", n_bytes=peak.ram_bytes, excludes=excludes)]
    rows.append(Row(test="device memory", group="memory", n_bytes=peak.gpu_bytes, excludes=excludes))
    return rows
