"""Find out which photos of some folders have yet to be judged, without decoding those that are known."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from aesedge.library.examination import tail_of
from aesedge.library.finding import Picture, pictures_in
from aesedge.system.ordered_map import batched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aesedge.library.catalogue_writer import CatalogueWriter
    from aesedge.library.finding import Shard
    from aesedge.library.records import KnownFailure, KnownFile

_AT_ONCE = 500  # pictures that the catalogue is asked about; one by one takes three times as long
_MISSING_EXTRA = "MissingExtraError"


@dataclass
class Survey:
    """What was found in the folders."""

    new: list[Picture] = field(default_factory=list)
    """To be judged."""
    changed: list[Picture] = field(default_factory=list)
    """Known by their path, but the file is another one: perhaps with the same pixels."""
    n_known: int = 0
    """Pictures that are judged."""
    n_failed_before: int = 0
    """Files that could not be judged, and have not changed since."""
    n_away: int = 0
    """Known photos that are not there now, nor anywhere else."""
    errors: list[OSError] = field(default_factory=list)
    """Folders that could not be read."""

    @property
    def n(self) -> int:
        """All pictures that are there."""
        return len(self.new) + len(self.changed) + self.n_known + self.n_failed_before


@dataclass(frozen=True)
class Surveyor:
    """Compares folders with a catalogue.

    Args:
        catalogue: what is known.
        settings: number of the settings under which photos are judged.
        retry: whether photos that failed are tried again.
        estimates_count: whether a score of the first pass is enough.
        shard: which part of the photos counts; None for all.
    """

    catalogue: CatalogueWriter
    settings: int
    retry: bool = False
    estimates_count: bool = False
    shard: Shard | None = None

    def survey(self, folders: Iterable[str]) -> Survey:
        """Look through folders, given by their real paths, and note what moved."""
        found = Survey()
        seen: set[str] = set()
        for folder in folders:
            self._survey_one(folder, found, seen)
        return found

    def _survey_one(self, folder: str, found: Survey, seen: set[str]) -> None:
        there: list[str] = []
        n_errors = len(found.errors)
        if not os.path.lexists(folder):
            found.errors.append(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder))
            found.n_away += self.catalogue.n_pictures(folder)
            return
        with self.catalogue.transaction():  # one for all that moved: thousands would take seconds
            for group in batched(pictures_in(folder, found.errors.append), _AT_ONCE):
                known = self.catalogue.files([picture.name for picture in group], self.settings)
                for picture in group:
                    there += [file.path for file in picture.files]
                    is_ours = self.shard is None or self.shard.holds(picture, folder)
                    if is_ours and picture.name not in seen:
                        seen.add(picture.name)
                        self._sort(picture, known.get(picture.name), found)
            if len(found.errors) == n_errors and os.path.isdir(folder):  # noqa: PTH112
                found.n_away += self.catalogue.mark_gone(folder, there)

    def _sort(self, picture: Picture, known: KnownFile | None, found: Survey) -> None:
        if known is not None and known.state == picture.file.state:
            if known.judged_as is not None:  # the finished photo beside it is gone
                self.catalogue.add_file(picture.name, picture.file.state, known.content, tail=None)
            self._add_others(picture, known.content)
            self._count(picture, known.score_from, found)
            return
        failure = self.catalogue.failure(picture.name)
        if failure is not None and failure.state == picture.file.state and not self._again(failure):
            found.n_failed_before += 1
            for other in picture.others:  # it may be better
                self._sort(Picture(other), self.catalogue.file(other.path, self.settings), found)
            return
        content = self._moved(picture)
        if content is not None:
            self._add_others(picture, content)
            self._count(picture, self.catalogue.score_from(content, self.settings), found)
        elif known is not None:
            found.changed.append(picture)
        else:
            found.new.append(picture)

    def _count(self, picture: Picture, score_from: str | None, found: Survey) -> None:
        if score_from == "model" or (score_from is not None and self.estimates_count):
            found.n_known += 1
        else:
            found.new.append(picture)

    def _again(self, failure: KnownFailure) -> bool:
        has_extra = find_spec("rawpy") is not None and find_spec("pillow_heif") is not None
        return self.retry or (failure.type == _MISSING_EXTRA and has_extra)

    def _moved(self, picture: Picture) -> int | None:
        """Return the picture of a file that was moved, renamed or copied, and note where it is now."""
        path, state = picture.file
        if not self.catalogue.has_size(state.size):
            return None
        tail = tail_of(picture)
        content = None if tail is None else self.catalogue.content_by_tail(state.size, tail)
        if content is not None:
            self.catalogue.add_file(path, state, content, tail=tail)
        return content

    def _add_others(self, picture: Picture, content: int) -> None:
        for path, state in picture.others:
            known = self.catalogue.file(path, self.settings)
            if known is None or (known.state, known.content, known.judged_as) != (state, content, picture.name):
                self.catalogue.add_file(path, state, content, tail=None, judged_as=picture.name)
