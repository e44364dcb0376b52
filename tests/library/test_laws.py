"""Laws of a library under random interleavings of what people, programs, drives and kills do to it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import open_tiny
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from photo_files import jpeg, with_metadata, write_photos

from aesedge.bundle.bundle import open_bundle
from aesedge.config.options import Options
from aesedge.errors import CatalogueError
from aesedge.library.catalogue import open_catalogue
from aesedge.library.catalogue_writer import open_writer
from aesedge.library.judging import Judged
from aesedge.library.rating import Rater, RatingOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

PHOTOS = [jpeg(seed) for seed in range(6)]
NAMES = [f"{folder}/{name}.jpg" for folder in ("a", "b/c") for name in range(4)]
name_ = st.sampled_from(NAMES)
photo_ = st.integers(0, len(PHOTOS) - 1)


@pytest.fixture(scope="module")
def rater(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rater]:
    folder = tmp_path_factory.mktemp("cache")
    options = Options(threads=1, device="cpu", cache="0", cache_folder=folder)
    with Rater(open_bundle(bundle_folder), options, RatingOptions()) as opened:
        yield opened


@pytest.fixture(scope="module")
def scores(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    folder = tmp_path_factory.mktemp("scored")
    paths = [folder / f"{i}.jpg" for i in range(len(PHOTOS))]
    for path, data in zip(paths, PHOTOS, strict=True):
        path.write_bytes(data)
    with open_tiny(bundle_folder, cache="0") as model:
        return [outcome.value.score for outcome in model.score_many(paths)]


class Library(RuleBasedStateMachine):
    """A folder that people and programs change, and what must be true of its catalogue."""

    rater: Rater
    scores: list[float]

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(os.path.realpath(tempfile.mkdtemp()))
        self.drive, self.away = self.home / "drive", self.home / "away"
        self.catalogue = self.home / "x.aesedge"
        self.there: dict[str, int] = {}
        """Name of each file to the photo in it."""
        self.n_judged = [0] * len(PHOTOS)
        self.n_texts = 0

    @initialize(photo=photo_)
    def begin(self, photo: int) -> None:
        self.drive.mkdir()
        self.put(NAMES[0], photo)

    def is_plugged_in(self) -> bool:
        return self.drive.exists()

    @rule(name=name_, photo=photo_)
    def put(self, name: str, photo: int) -> None:
        """A new photo, or another one in the place of one."""
        if self.is_plugged_in():
            path = self.drive / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PHOTOS[photo])
            self.there[name] = photo

    @rule(source=name_, to=name_)
    def move(self, source: str, to: str) -> None:
        if self.is_plugged_in() and source in self.there and source != to:
            (self.drive / to).parent.mkdir(parents=True, exist_ok=True)
            (self.drive / source).replace(self.drive / to)
            self.there[to] = self.there.pop(source)

    @rule(source=name_, to=name_)
    def copy(self, source: str, to: str) -> None:
        if self.is_plugged_in() and source in self.there and source != to:
            (self.drive / to).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.drive / source, self.drive / to)
            self.there[to] = self.there[source]

    @rule(name=name_)
    def write_metadata(self, name: str) -> None:
        if self.is_plugged_in() and name in self.there:
            self.n_texts += 1
            path = self.drive / name
            path.write_bytes(with_metadata(path.read_bytes(), b"rating %d" % self.n_texts))

    @rule(name=name_)
    def delete(self, name: str) -> None:
        if self.is_plugged_in() and self.there.pop(name, None) is not None:
            (self.drive / name).unlink()

    @rule()
    def unplug(self) -> None:
        if self.is_plugged_in():
            self.drive.rename(self.away)

    @rule()
    def plug_in(self) -> None:
        if not self.is_plugged_in():
            self.away.rename(self.drive)

    @rule(n_events=st.integers(1, 4))
    def rate_and_stop(self, n_events: int) -> None:
        """Rate until a few events were reported, and stop there."""
        self.rate(n_events)

    @rule()
    def rate(self, n_events: int | None = None) -> None:
        with open_writer(self.catalogue) as file:
            for event in islice(self.rater.rate(file, [str(self.drive)]), n_events):
                if isinstance(event, Judged):
                    name = os.path.relpath(event.result.photo, self.drive)
                    self.n_judged[self.there[name]] += 1
                    assert event.result.score == pytest.approx(self.scores[self.there[name]], abs=1e-4)
        if n_events is None and self.is_plugged_in():
            with open_catalogue(self.catalogue) as file:
                known = {photo.path: photo for photo in file.judgements(self.drive) if not photo.is_away}
            assert known.keys() == {str(self.drive / name) for name in self.there}
            for name, photo in self.there.items():
                assert known[str(self.drive / name)].score == pytest.approx(self.scores[photo], abs=1e-4)

    @rule()
    def second_writer(self) -> None:
        with open_writer(self.catalogue), pytest.raises(CatalogueError, match="writes to this catalogue"):
            open_writer(self.catalogue)

    @invariant()
    def nothing_is_judged_twice_and_nothing_is_lost(self) -> None:
        assert max(self.n_judged) <= 1
        if self.catalogue.exists():
            with open_catalogue(self.catalogue) as file:
                assert file.n_judgements() == sum(self.n_judged)

    def teardown(self) -> None:
        shutil.rmtree(self.home)


def test_laws_hold_in_any_order(rater: Rater, scores: list[float]) -> None:
    machine = type("Bound", (Library,), {"rater": rater, "scores": scores})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_killed_runs_and_a_last_one_are_one_run(bundle_folder: Path, tmp_path: Path) -> None:
    folder, catalogue, rng = tmp_path / "photos", tmp_path / "x.aesedge", random.Random(0)
    write_photos(folder, 40)
    options = ("--bundle", bundle_folder, "--threads", "1", "--cache-size", "0", "--catalogue", catalogue)
    command = [sys.executable, "-m", "aesedge", "rate", "--json", "--quiet", *map(str, options), str(folder)]
    reported: list[str] = []
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            lines = list(islice(running.stdout, rng.randint(1, 8)))
            running.kill()
            lines += running.stdout.readlines()
        reported += [json.loads(line)["photo"] for line in lines if line.endswith("\n")]
        with open_catalogue(catalogue) as file:
            assert {photo.path for photo in file.judgements()} >= set(reported)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    reported += [json.loads(line)["photo"] for line in done.stdout.splitlines()]
    assert len(reported) == len(set(reported))
    with open_catalogue(catalogue) as file:
        assert len(list(file.judgements())) == file.n_judgements() == 40
