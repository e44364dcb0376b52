"""Every tier of reuse against a cold reading; knows what is reused, not how far answers may be apart.

A check fails as well where the tier was not used: cold compared with cold would prove nothing.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.cache import DiskStore
from aesedge.cache.lru_index import entry_path
from aesedge.doctor import probe
from aesedge.doctor.difference import Check, Difference, between_texts, largest
from aesedge.engine.likelihood import Likelihood, likelihood_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from aesedge.doctor.bundle_under_test import BundleUnderTest, ColdReference
    from aesedge.doctor.difference import Floors, Limits
    from aesedge.engine.model import Model
    from aesedge.engine.photo import Photo

GROUP = "reuse"


class Reuse:
    """The examination of one model's reuse.

    Args:
        patient: the model.
        cold: what must come out.
        floors: how exactly.
        photos: three or more; the first two are kept on disk.
    """

    def __init__(self, patient: BundleUnderTest, cold: ColdReference, floors: Floors, photos: Sequence[Path]) -> None:
        self._patient = patient
        self._cold = cold
        self._floors = floors
        self._photos = photos
        self._checks: list[Check] = []

    def examine(self, show: Callable[[float], None]) -> list[Check]:
        """Return all checks."""
        folder = self._patient.new_folder()
        with self._patient.kept(folder) as model:
            compare = self._in_one_process(model, show)
        compare()
        show(0.8)
        before = _prefix_file(folder)
        with self._patient.kept(folder) as model:
            self._reopened(model, show, prefix_was_read=_was_read(before, _prefix_file(folder)))
        show(1.0)
        return self._checks

    def _add(self, name: str, found: Difference, missing: str = "", *, limits: Limits | None = None) -> None:
        limits = limits or self._floors.same
        self._checks.append(Check(GROUP, name, found, limits, missing or limits.problem(found)))

    def _compared(self, model: Model, photo: Photo) -> Difference:
        return probe.between(probe.probe_photo(model, photo), self._cold.seen(Path(photo.name)))

    def _in_one_process(self, model: Model, show: Callable[[float], None]) -> Callable[[], None]:
        with ExitStack() as stack:
            pair = [stack.enter_context(model.look(path)) for path in self._photos[:2]]
            for photo in pair:
                probe.probe_photo(model, photo)
            inside = all(photo.internals.image.is_resident() for photo in pair[-1:])
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
        """The text after its question, with other questions on both sides; the score with all attributes."""
        rating = model.manifest.rating
        others = [rating.question, *rating.attributes.values()]
        prompts = [probe.prompt(model, question) for question in (others[0], None, others[-1])]
        text = probe.begin(model, photo, prompts).wait()[1]
        score, _ = photo.score_and_attributes()
        found = probe.between(probe.Seen(text, score), self._cold.seen(Path(photo.name)))
        self._add("several questions together", found, limits=self._floors.other)

    def _conversation(self, model: Model, photo: Photo) -> Callable[[], None]:
        """A second question after a first one, and in place of the first.

        Returns:
            What compares it with a cold reading; that one needs the memory of another model.
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
            tickets = [probe.begin(model, photo, [probe.prompt(model)]) for photo in photos]
            texts: list[Likelihood] = [ticket.wait()[0] for ticket in tickets]
        colds = [self._cold.text(path) for path in self._photos]
        self._add("several photos together", largest(map(between_texts, texts, colds)), limits=self._floors.other)

    def _reopened(self, model: Model, show: Callable[[float], None], *, prefix_was_read: bool) -> None:
        pinned, known, other = self._photos[:3]
        missing = "" if prefix_was_read else "the text before the image was computed, not read from disk"
        with model.look(other) as photo:
            self._add("text before the image, from disk", self._compared(model, photo), missing)
        self._add_known(model, "embeddings from disk", [known])
        show(0.9)
        self._add_known(model, "pinned KV from disk", [pinned], state="kv")


def _prefix_file(folder: Path) -> os.stat_result | None:
    """Return what the system knows of the file with the text before the image."""
    for entry in DiskStore(folder / "kv", kind="kv", budget_bytes=None).entries():
        if not entry.pinned:
            return entry_path(folder / "kv", entry.key, pinned=False).stat()
    return None


def _was_read(before: os.stat_result | None, after: os.stat_result | None) -> bool:
    """Whether a file was used and is still the same one, not written anew."""
    return (
        before is not None
        and after is not None
        and before.st_ino == after.st_ino
        and before.st_mtime_ns < after.st_mtime_ns
    )
