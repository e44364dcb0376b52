"""Several photos in every order, and whether each answers for itself; knows no files.

The text and the score are asked in turn, each with so much room that everything else must leave the cache, in a
context that is as small as the questions allow.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import combinations, permutations
from typing import TYPE_CHECKING

from aesedge.doctor import probe
from aesedge.doctor.bundle_under_test import N_PHOTOS
from aesedge.doctor.difference import APART, Check, Difference, Floors, Limits, between_ratings, between_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from aesedge.doctor.bundle_under_test import BundleUnderTest, ColdReference
    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo

GROUP = "photos"


def nearest(cold: ColdReference, photos: Sequence[Path]) -> float:
    """Return by how many nats per token the two photos that are most alike differ, each read cold."""
    return min(between_texts(cold.text(a), cold.text(b)).nll or 0.0 for a, b in combinations(photos, 2))


def check_distinguishable(cold: ColdReference, floors: Floors, photos: Sequence[Path]) -> Check:
    """See that the figures would show it, if one photo answered for another."""
    found, limits = nearest(cold, photos), floors.other
    problem = (
        ""
        if found >= APART * limits.nll
        else f"this proves nothing on these photos: two of them differ by {found:.2g} nats per token only, and "
        f"{APART} times the limit would be {APART * limits.nll:.2g}; name photos that differ more with --photo"
    )
    least = APART * limits.nll
    return Check(
        GROUP, "photos can be told apart", Difference(nll=found, same_bits=False), limits, problem, least_nll=least
    )


def swapped(
    patient: BundleUnderTest, cold: ColdReference, limits: Limits, photos: Sequence[Path], show: Callable[[float], None]
) -> list[Check]:
    """Ask photos in every order, with everything else driven out each time."""
    orders = list(_orders(photos))
    found, n_readings, n_left = Difference(), 0, 0
    with patient.fresh(ctx=_small_ctx(patient)) as model, ExitStack() as stack:
        opened = {path: stack.enter_context(model.look(path)) for path in photos}
        for i, order in enumerate(orders):
            asked = [opened[path] for path in order]
            for j, (path, photo) in enumerate(zip(order, asked, strict=True)):
                found |= _ask(model, photo, cold, path, text=(i + j) % 2 == 0)
                n_left += sum(not other.internals.image.is_resident() for other in asked if other is not photo)
                n_readings += 1
            show((i + 1) / len(orders))
    n_others = n_readings * (N_PHOTOS - 1)
    missing = "" if n_left == n_others else f"images left the cache {n_left} of {n_others} times"
    name = f"{len(orders)} orders, {n_readings} questions"
    again = _looked_at_again(patient, cold, photos)
    return [
        Check(GROUP, name, found, limits, missing or limits.problem(found)),
        Check(GROUP, "looked at again, there and back", again, limits, limits.problem(again)),
    ]


def _orders(photos: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Yield all orders of three photos at a time, until each photo had its turn."""
    for start in range(0, len(photos), N_PHOTOS):
        begin = min(start, len(photos) - N_PHOTOS)
        yield from permutations(photos[begin : begin + N_PHOTOS])


def _ask(model: Model, photo: Photo, cold: ColdReference, path: Path, *, text: bool) -> Difference:
    probe.evict_others(model, photo)
    if text:
        return between_texts(probe.read(model, photo), cold.text(path))
    return between_ratings(photo.score(), cold.rating(path))


def _small_ctx(patient: BundleUnderTest) -> int:
    """Return the smallest context in which one photo and what is asked here have room."""
    with patient.fresh() as model:
        rating = model.manifest.rating
        questions = [None, rating.question, *rating.attributes.values()]
        longest = max(len(probe.prompt(model, question)) for question in questions)
        n_labels = sum(map(len, model.internals.labels.prefixes))
        return (
            model.internals.sequences.n_prefix
            + model.n_image_tokens
            + longest
            + max(len(probe.answer(model)), n_labels)
            + 1
        )


def _looked_at_again(patient: BundleUnderTest, cold: ColdReference, photos: Sequence[Path]) -> Difference:
    """Look at photos and let go of them, there and back, so that each is known when it comes again."""
    found = Difference()
    with patient.fresh() as model:
        for path in [*photos, *reversed(photos)]:
            with model.look(path) as photo:
                found |= between_texts(probe.read(model, photo), cold.text(path))
    return found
