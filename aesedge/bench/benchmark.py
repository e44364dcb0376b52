"""Run a benchmark step by step."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import psutil

from aesedge.bench import quality
from aesedge.bench.ceilings import Ceilings, better, measure_ceilings
from aesedge.bench.fixture import Fixture, NewPhotos
from aesedge.bench.kernels import require_kernels
from aesedge.bench.predict import predict
from aesedge.bench.result import Quality, Result, Row
from aesedge.bench.rounds import Stopwatch, run_rounds
from aesedge.bench.run_info import add_shares, make_run_info
from aesedge.bench.timing import measurements, open_raw_timer
from aesedge.engine.model import Model
from aesedge.errors import UsageError
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import trim_heap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from aesedge.bench.ceilings import Device
    from aesedge.bench.predict import PredictTypes
    from aesedge.bench.result import Against
    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options

    Show = Callable[[float], None]
    Step = Callable[[Show], None]
    OpenBaseline = Callable[[Fixture], AbstractContextManager["Baseline"]]

_MOST_LOADS, _LOADING_S = 3, 10.0
_SLOW_S = 5.0
"""Where a photo takes longer, quality is compared on one photo and the score question alone."""


class Baseline(Protocol):
    """Another program, open, that does the same work."""

    reference: str
    """Its name, with version."""
    left_out: str
    """What is not compared, and why; empty where everything is."""

    def run(
        self, *, seconds: float, repetitions: int, progress: Callable[[float], None], rows: dict[str, Against]
    ) -> object:
        """Do the same work in turns with the model, and fill in a row for each test."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, and for how long."""

    repetitions: int = 5
    """Of each row, where there is time."""
    seconds: float = 300.0
    """For all rows together; every row is measured at least once."""
    quality: bool = True
    """Whether scores and texts are compared with the bundle's reference."""
    kernels: bool = False
    """Whether the native kernels are run too."""

    def __post_init__(self) -> None:
        if not 1 <= self.repetitions <= 1_000_000:
            raise UsageError(f"--repetitions {self.repetitions}: give 1 to 1000000")
        if not 0 < self.seconds <= 1e7:
            raise UsageError(f"--seconds {self.seconds:g}: give more than 0 and at most 10000000")


class BenchmarkRun:
    """One run. Use it as a context manager, and run its steps one by one; :meth:`finish` returns the result.

    Args:
        bundle: what is measured.
        options: how it is run; the benchmark keeps nothing on disk, whatever they say.
        photos: what it is shown; none takes the samples.
        bench_options: which rows, and how often.
        predict_types: times and predicts other types.
        open_baseline: opens another program that does the same, in turns.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: Options,
        photos: Sequence[Path],
        bench_options: BenchOptions,
        predict_types: PredictTypes | None = None,
        open_baseline: OpenBaseline | None = None,
    ) -> None:
        for path in photos:
            if not path.is_file():
                raise UsageError(f"{path}: there is no such photo")
        if bench_options.kernels:
            require_kernels("gpu" if options.device != "cpu" and gpu_devices() else "cpu")
        self._bundle = bundle
        self._options = dataclasses.replace(options, cache="0")
        self._photos = list(photos or SAMPLE_PHOTOS)
        self._bench = bench_options
        self._predict_types, self._open_baseline = predict_types, open_baseline
        self._is_open = False
        self._reference: quality.Reference | Quality | None = None
        self._against: dict[str, Against] = {}
        self._rows: list[Row] = []
        self._stack = ExitStack()
        self._began = time.monotonic()

    def __enter__(self) -> BenchmarkRun:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="aesedge-bench-")))
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def steps(self) -> list[tuple[str, Step]]:
        """Return the steps with their names, in order; a step takes a function that hears the share done."""
        bench = self._bench
        steps: dict[str, tuple[Step, bool]] = {
            "loading": (self._load, True),
            "asking the reference": (self._ask_reference, bench.quality),
            "looking at the machine": (self._open, True),
            "measuring": (self._measure, True),
            "comparing what is said": (self._compare_quality, bench.quality),
            "taking turns with libmtmd": (self._run_baseline, self._open_baseline is not None),
            "predicting": (self._predict, True),
            "timing kernels": (self._time_kernels, bench.kernels),
            "looking at the machine again": (self._measure_ceilings_again, not bench.kernels),
        }
        return [(name, step) for name, (step, is_wanted) in steps.items() if is_wanted]

    def finish(self) -> Result | None:
        """Return what was measured so far; None where it was stopped before that."""
        if not self._is_open:
            return None
        self.result.rows = [row for row in self._rows if row.samples_ns or row.n_bytes is not None]
        self.result.against = list(self._against.values())
        add_shares(self.result.rows, self.result.card)
        self.result.card.took_s = round(time.monotonic() - self._began, 1)
        return self.result

    def _load(self, show: Show) -> None:
        """Load it as users do, look at a photo, and measure the memory that takes."""
        row = Row(test="load", group="load", excludes="reading the disk: the files were read before", n_warm_up=1)
        left, since_start, free_gpu = _LOADING_S, not _reset_peak(), _free_gpu_bytes()
        for i in range(1 + _MOST_LOADS):
            watch = Stopwatch()
            with Model(self._bundle, self._options) as model:
                took = watch.sample()
                if i:
                    row.samples_ns.append(took.ns)
                else:  # the first one read the disk
                    watch = Stopwatch()
                    with model.look(self._photos[0]) as photo:
                        photo.score()
                        self._photo_s = watch.seconds
                        photo.critique(max_tokens=4)
                    self._rows += [row, *_memory_rows(max(0, free_gpu - _free_gpu_bytes()), since_start=since_start)]
            left -= 2 * took.ns / 1e9
            show(i / _MOST_LOADS)
            if i and left < 0:
                break
        trim_heap()

    def _ask_reference(self, show: Show) -> None:
        is_slow = self._photo_s > _SLOW_S
        photos = self._photos[:1] if is_slow else self._photos
        self._reference = quality.read_reference(
            self._bundle, self._options, photos=photos, attributes=not is_slow, progress=show
        )

    def _open(self, show: Show) -> None:
        """Open the model with room for another photo, and describe the machine."""
        self._model = self._stack.enter_context(Model(self._bundle, dataclasses.replace(self._options, photos=2)))
        show(0.3)
        self._device: Device = "gpu" if self._model.internals.n_gpu_layers else "cpu"
        card = make_run_info(
            self._model, self._photos, repetitions=self._bench.repetitions, seconds=self._bench.seconds
        )
        self.result = Result(card=card, rows=self._rows)
        self._is_open = True

    def _measure(self, show: Show) -> None:
        fixture = self._fixture = Fixture(self._model, self._photos, NewPhotos(self._photos, self._folder))
        self._stack.callback(fixture.close)
        tests = measurements(fixture, self._stack.enter_context(open_raw_timer(fixture)))
        self._rows += [test.row for test in tests]
        run_rounds(tests, repetitions=self._bench.repetitions, seconds=self._bench.seconds, show=show)

    def _compare_quality(self, show: Show) -> None:
        found = self._reference
        self.result.quality = (
            quality.compare(found, self._model, progress=show) if isinstance(found, quality.Reference) else found
        )

    def _predict(self, show: Show) -> None:
        self.result.predictions, notes = predict(self._model, self._rows, self._predict_types, show)
        self.result.notes += notes

    def _run_baseline(self, show: Show) -> None:
        if self._open_baseline is None:
            return
        bench = self._bench
        with self._open_baseline(self._fixture) as baseline:
            self.result.reference = baseline.reference
            self.result.notes += [f"against: {baseline.left_out}"] if baseline.left_out else []
            baseline.run(seconds=bench.seconds, repetitions=bench.repetitions, progress=show, rows=self._against)

    def _time_kernels(self, show: Show) -> None:
        """Run the native kernels at the model's shapes; the tower's too, where those are known."""
        n_lines = 0

        def keep(found: dict[str, Any] | None) -> None:
            nonlocal n_lines
            n_lines += 1
            show(n_lines / (n_lines + 20))
            if found is not None:
                self.result.kernels, self.result.card.ceilings = found, found["ceilings"]

        report = require_kernels(self._device)
        keep(report.time_kernels(self._model, self._device, self.result.card.ceilings, keep))

    def _measure_ceilings_again(self, _show: Show) -> None:
        """Measure the ceilings once more: what disturbed them then may be over."""
        again = measure_ceilings(self._model.internals.plan.threads_batch, self._device)
        before = msgspec.convert(self.result.card.ceilings, Ceilings)
        self.result.card.ceilings = msgspec.to_builtins(better(before, again))


def _memory_rows(gpu_bytes: int, *, since_start: bool) -> list[Row]:
    excludes = "other photos: it was loaded, and has scored one and written a few words"
    if since_start:
        excludes += "; counted from the start of the process, which may have done other things"
    found = {"peak RSS": _peak_bytes(), "device memory": gpu_bytes}
    return [Row(test=test, group="memory", n_bytes=n, excludes=excludes) for test, n in found.items()]


def _reset_peak() -> bool:
    """Have the process's peak counted from here, see proc(5); return whether the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def _peak_bytes() -> int:
    """Return the largest resident size of this process."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) << (0 if sys.platform == "darwin" else 10)


def _free_gpu_bytes() -> int:
    return sum(gpu.free_bytes for gpu in gpu_devices() if not gpu.shares_ram)
