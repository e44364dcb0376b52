"""Prove reuse: every check, in the order in which one needs another."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.doctor.batch_noise import noise_floors
from aesedge.doctor.bundle_under_test import N_PHOTOS, BundleUnderTest, ColdReference, photos_for
from aesedge.doctor.concurrency_check import check_concurrency
from aesedge.doctor.corruption import damaged
from aesedge.doctor.difference import Check, Difference, Floors, Limits
from aesedge.doctor.eviction_order import check_distinguishable, swapped
from aesedge.doctor.reuse import Reuse
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options

    Show = Callable[[float], None]
    Step = Callable[[Show], None]


@dataclass
class CacheReport:
    """What came out."""

    floors: Floors = field(default_factory=lambda: Floors(*3 * [Limits(Difference())]))
    """What the backend changes by itself, in the same batches and in others."""
    photos: list[Path] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was found wrong."""
        return all(check.passed for check in self.checks)


class CacheExamination:
    """Proves reuse, or not, in a temporary folder. Use it as a context manager, and run its steps one by one.

    Args:
        bundle: what is examined.
        options: how it is loaded; where things are kept is the examination's business.
        photos: what is asked about; none takes the samples.
    """

    def __init__(self, bundle: Bundle, options: Options, photos: Sequence[Path] = ()) -> None:
        for path in photos:
            if not path.is_file():
                raise UsageError(f"{path}: there is no such photo")
        self._bundle = bundle
        self._options = options
        self._given = photos
        self._stack = ExitStack()
        self.report = CacheReport()

    def __enter__(self) -> CacheExamination:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="aesedge-doctor-")))
        self._patient = BundleUnderTest(self._bundle, self._options, folder)
        self._cold = ColdReference(self._patient)
        self.report.photos = photos_for(self._given, folder)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def steps(self) -> list[tuple[str, Step]]:
        """Return what is to be done, each with its name; a step takes a function that hears how much of it is done."""
        report, given = self.report, (self._patient, self._cold)

        def checks(make: Callable[[Show], list[Check]]) -> Step:
            return lambda show: report.checks.extend(make(show))

        return [
            ("reading photos cold", self._read_cold),
            ("measuring the noise floor", self._measure_noise),
            ("reusing", checks(lambda show: Reuse(*given, report.floors, report.photos).examine(show))),
            ("swapping photos", checks(lambda show: swapped(*given, report.floors.same, report.photos, show))),
            ("damaging files", checks(lambda show: damaged(*given, report.floors.same, report.photos, show))),
            (
                "starting two processes",
                checks(lambda show: check_concurrency(*given, report.floors.same, report.photos[:N_PHOTOS], show)),
            ),
        ]

    def _read_cold(self, show: Show) -> None:
        photos = self.report.photos
        for i, path in enumerate(photos):
            self._cold.seen(path)
            show((i + 1) / len(photos))

    def _measure_noise(self, show: Show) -> None:
        report = self.report
        report.floors = noise_floors(self._patient, self._cold, report.photos[:N_PHOTOS], show)
        report.checks.append(check_distinguishable(self._cold, report.floors, report.photos))
