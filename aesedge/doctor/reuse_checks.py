"""Prove reuse: every tier of it against a cold reading, photos in every order, and the cache faults.

A check fails as well where a tier was not used: cold compared with cold would prove nothing.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.cache import DiskStore
from aesedge.cache.lru_index import entry_path
from aesedge.doctor import probe
from aesedge.doctor.batch_noise import noise_floors
from aesedge.doctor.bundle_under_test import N_PHOTOS, BundleUnderTest, ColdReference, photos_for
from aesedge.doctor.cache_faults import check_concurrency, damaged
from aesedge.doctor.difference import APART, Check, Difference, Floors, Limits, between_ratings, between_texts, largest
from aesedge.engine.likelihood import likelihood_of
from aesedge.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options
    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo

    Show = Callable[[float], None]
    Step = Callable[[Show], None]


@dataclass
class CacheReport:
    """The result of the proof."""

    floors: Floors = field(default_factory=lambda: Floors(*3 * [Limits(Difference())]))
    """What the backend changes by itself."""
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
        options: how it is loaded; the examination decides where things are kept.
        photos: what is asked about; none takes the samples.
    """

    def __init__(self, bundle: Bundle, options: Options, photos: Sequence[Path] = ()) -> None:
        for path in photos:
            if not path.is_file():
                raise UsageError(f"{path}: there is no such photo")
        self._bundle, self._options, self._given = bundle, options, photos
        self._stack = ExitStack()
        self.report = CacheReport()

    def __enter__(self) -> CacheExamination:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="aesedge-doctor-")))
        self._under_test = BundleUnderTest(self._bundle, self._options, folder)
        self._cold = ColdReference(self._under_test)
        self.report.photos = photos_for(self._given, folder)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def steps(self) -> list[tuple[str, Step]]:
        """Return the steps with their names, in order; a step takes a function that hears the share done."""
        report, given = self.report, (self._under_test, self._cold)

        def checks(make: Callable[[Show], list[Check]]) -> Step:
            return lambda show: report.checks.extend(make(show))

        def read_cold(show: Show) -> None:
            for i, path in enumerate(report.photos):
                self._cold.seen(path)
                show((i + 1) / len(report.photos))

        def measure_noise(show: Show) -> None:
            report.floors = noise_floors(*given, report.photos[:N_PHOTOS], show)
            report.checks.append(check_distinguishable(self._cold, report.floors, report.photos))

        return [
            ("reading photos cold", read_cold),
            ("measuring the noise floor", measure_noise),
            ("reusing", checks(lambda show: Reuse(*given, report.floors, report.photos).examine(show))),
            ("swapping photos", checks(lambda show: swapped(*given, report.floors.same, report.photos, show))),
            ("damaging files", checks(lambda show: damaged(*given, report.floors.same, report.photos, show))),
            (
                "starting two processes",
                checks(lambda show: check_concurrency(*given, report.floors.same, report.photos[:N_PHOTOS], show)),
            ),
        ]


class Reuse:
    """The checks of every tier of reuse, on three or more photos; the first two are kept on disk."""

    def __init__(
        self, under_test: BundleUnderTest, cold: ColdReference, floors: Floors, photos: Sequence[Path]
    ) -> None:
        self._under_test, self._cold, self._floors, self._photos = under_test, cold, floors, photos
        self._checks: list[Check] = []

    def examine(self, show: Show) -> list[Check]:
        """Return all checks."""
        folder = self._under_test.new_folder()
        with self._under_test.kept(folder) as model:
            compare = self._in_one_process(model, show)
        compare()
        show(0.8)
        before = _prefix_file(folder)
        with self._under_test.kept(folder) as model:
            self._reopened(model, prefix_was_read=_was_read(before, _prefix_file(folder)))
        show(1.0)
        return self._checks

    def _add(self, name: str, found: Difference, missing: str = "", *, limits: Limits | None = None) -> None:
        limits = limits or self._floors.same
        self._checks.append(Check("reuse", name, found, limits, missing or limits.problem(found)))

    def _compared(self, model: Model, photo: Photo) -> Difference:
        return probe.between(probe.probe_photo(model, photo), self._cold.seen(Path(photo.name)))

    def _in_one_process(self, model: Model, show: Show) -> Callable[[], None]:
        with ExitStack() as stack:
            pair = [stack.enter_context(model.look(path)) for path in self._photos[:2]]
            for photo in pair:
                probe.probe_photo(model, photo)
            inside = pair[-1].internals.image.is_resident()
            again = largest(self._compared(model, photo) for photo in pair)
            self._add("image in the cache, asked again", again, "" if inside else "the image had left the cache")
            show(0.2)
            for photo in pair:
                photo.close()
            left = not any(photo.internals.image.is_resident() for photo in pair)
            back = largest(self._compared(model, photo) for photo in pair)
            self._add("image left the cache, came back", back, "" if left else "the image would not leave")
            show(0.4)
            self._add_known(model, "embeddings in memory", self._photos[:2])
            show(0.5)
            self._questions_together(model, pair[0])
            compare = self._conversation(model, pair[0])
            show(0.6)
            self._photos_together(model)
            show(0.7)
            pair[0].pin()
        return compare

    def _add_known(self, model: Model, name: str, paths: Sequence[Path], state: str = "embeddings") -> None:
        found, missing = Difference(), ""
        for path in paths:
            with model.look(path) as photo:
                if photo.cache_state != state:
                    missing = f"{path.name} was to be taken from {state}, and was {photo.cache_state}"
                found |= self._compared(model, photo)
        self._add(name, found, missing)

    def _questions_together(self, model: Model, photo: Photo) -> None:
        """Read the text after its question, with other questions on both sides; the score with all attributes."""
        rating = model.manifest.rating
        others = [rating.question, *rating.attributes.values()]
        prompts = [probe.prompt(model, question) for question in (others[0], None, others[-1])]
        text = probe.begin(model, photo, prompts).wait()[1]
        score, _ = photo.score_and_attributes()
        found = probe.between(probe.Seen(text, score), self._cold.seen(Path(photo.name)))
        self._add("several questions together", found, limits=self._floors.other)

    def _conversation(self, model: Model, photo: Photo) -> Callable[[], None]:
        """Ask a second question after a first one, and in place of the first.

        Returns:
            The comparison with a cold reading, which needs the memory of another model.
        """
        question, answer, path = model.manifest.prompt.critique, probe.answer(model), Path(photo.name)
        with photo.conversation() as conversation:
            conversation.ask(model.manifest.rating.question, max_tokens=probe.N_SAID)
            (turn,) = conversation.turns
            submit = model.internals.scheduler.submit
            later = likelihood_of(submit(conversation.teacher_forced(question, answer)).wait(), answer)
            conversation.undo()
            other = likelihood_of(submit(conversation.teacher_forced(question, answer)).wait(), answer)
        whole = probe.second_turn(model, turn.tokens)

        def compare() -> None:
            found = between_texts(later, self._cold.text(path, whole))
            self._add("second turn of a conversation", found, limits=self._floors.turns)

        found = between_texts(other, self._cold.text(path))
        self._add("turn taken back, asked otherwise", found, limits=self._floors.other)
        return compare

    def _photos_together(self, model: Model) -> None:
        with ExitStack() as stack:
            photos = [stack.enter_context(model.look(path)) for path in self._photos]
            readings = [probe.begin(model, photo, [probe.prompt(model)]) for photo in photos]
            texts = [reading.wait()[0] for reading in readings]
        colds = [self._cold.text(path) for path in self._photos]
        self._add("several photos together", largest(map(between_texts, texts, colds)), limits=self._floors.other)

    def _reopened(self, model: Model, *, prefix_was_read: bool) -> None:
        pinned, known, other = self._photos[:3]
        missing = "" if prefix_was_read else "the text before the image was computed, not read from disk"
        with model.look(other) as photo:
            self._add("text before the image, from disk", self._compared(model, photo), missing)
        self._add_known(model, "embeddings from disk", [known])
        self._add_known(model, "pinned KV from disk", [pinned], state="kv")


def _prefix_file(folder: Path) -> os.stat_result | None:
    """Return the status of the file with the text before the image."""
    for entry in DiskStore(folder / "kv", kind="kv", budget_bytes=None).entries():
        if not entry.pinned:
            return entry_path(folder / "kv", entry.key, pinned=False).stat()
    return None


def _was_read(before: os.stat_result | None, after: os.stat_result | None) -> bool:
    """Whether a file was used and is still the same one, not written anew."""
    is_same = before is not None and after is not None and before.st_ino == after.st_ino
    return is_same and before.st_mtime_ns < after.st_mtime_ns  # type: ignore[union-attr]


def check_distinguishable(cold: ColdReference, floors: Floors, photos: Sequence[Path]) -> Check:
    """Check that the figures would show it if one photo answered for another."""
    found = min(between_texts(cold.text(a), cold.text(b)).nll or 0.0 for a, b in combinations(photos, 2))
    limits, least = floors.other, APART * floors.other.nll
    problem = (
        ""
        if found >= least
        else f"this proves nothing on these photos: two of them differ by {found:.2g} nats per token only, and "
        f"{APART} times the limit would be {least:.2g}; name photos that differ more with --photo"
    )
    nearest = Difference(nll=found, same_bits=False)
    return Check("photos", "photos can be told apart", nearest, limits, problem, least_nll=least)


def swapped(
    under_test: BundleUnderTest, cold: ColdReference, limits: Limits, photos: Sequence[Path], show: Show
) -> list[Check]:
    """Ask about photos in every order, in the smallest context, with everything else evicted each time."""
    orders = list(_orders(photos))
    found, n_readings, n_left = Difference(), 0, 0
    with under_test.fresh(ctx=_small_ctx(under_test)) as model, ExitStack() as stack:
        opened = {path: stack.enter_context(model.look(path)) for path in photos}
        for i, order in enumerate(orders):
            asked = [opened[path] for path in order]
            for j, (path, photo) in enumerate(zip(order, asked, strict=True)):
                probe.evict_others(model, photo)
                if (i + j) % 2:
                    found |= between_ratings(photo.score(), cold.rating(path))
                else:
                    found |= between_texts(probe.read(model, photo), cold.text(path))
                n_left += sum(not other.internals.image.is_resident() for other in asked if other is not photo)
                n_readings += 1
            show((i + 1) / len(orders))
    n_others = n_readings * (N_PHOTOS - 1)
    missing = "" if n_left == n_others else f"images left the cache {n_left} of {n_others} times"
    again = Difference()
    with under_test.fresh() as model:
        for path in [*photos, *reversed(photos)]:  # there and back, so that each is known when it comes again
            with model.look(path) as photo:
                again |= between_texts(probe.read(model, photo), cold.text(path))
    name = f"{len(orders)} orders, {n_readings} questions"
    return [
        Check("photos", name, found, limits, missing or limits.problem(found)),
        Check("photos", "looked at again, there and back", again, limits, limits.problem(again)),
    ]


def _orders(photos: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Yield all orders of three photos at a time, until each photo had its turn."""
    for start in range(0, len(photos), N_PHOTOS):
        begin = min(start, len(photos) - N_PHOTOS)
        yield from permutations(photos[begin : begin + N_PHOTOS])


def _small_ctx(under_test: BundleUnderTest) -> int:
    """Return the smallest context that has room for one photo and a question about it."""
    with under_test.fresh() as model:
        rating = model.manifest.rating
        questions = [None, rating.question, *rating.attributes.values()]
        longest = max(len(probe.prompt(model, question)) for question in questions)
        n_labels = sum(map(len, model.internals.labels.prefixes))
        n_before = model.internals.sequences.n_prefix + model.n_image_tokens
        return n_before + longest + max(len(probe.answer(model)), n_labels) + 1
