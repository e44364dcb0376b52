"""Tell which new files are written to their end, by looking at them again and again.

Notifications of the system would be faster, but network drives send none.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from aesedge.image.find_photos import RAW_SUFFIXES

if TYPE_CHECKING:
    from aesedge.library.finding import Picture
    from aesedge.library.records import FileState

STILL_S = 1.0
"""A file that has the same size and time after this time is complete."""
_PAIR_S = 5.0
"""A RAW waits so long for the JPEG of its name: cameras send one after the other."""
_UNFINISHED = ("~", "._")
_WRITTEN_BY_PROGRAMS = ("digikamtempfile",)


class _Seen(NamedTuple):
    state: tuple[FileState, ...]
    since: float


class Arrivals:
    """Remembers files from look to look.

    Args:
        waits_for_pairs: whether a RAW waits for the JPEG of its name.
    """

    def __init__(self, *, waits_for_pairs: bool = True) -> None:
        self._raw_s = _PAIR_S if waits_for_pairs else STILL_S
        self._seen: dict[str, _Seen] = {}
        self._current: dict[str, _Seen] = {}

    def begin_look(self) -> None:
        """Forget what was not there at the last look."""
        self._seen, self._current = self._current, {}

    def is_complete(self, picture: Picture) -> bool:
        """Return whether a picture's files are as they were at an earlier look, a second ago or more."""
        name = os.path.basename(picture.name)  # noqa: PTH119
        if name.startswith(_UNFINISHED) or any(word in name for word in _WRITTEN_BY_PROGRAMS):
            return False
        now, state = time.monotonic(), tuple(file.state for file in picture.files)
        before = self._seen.get(picture.name)
        seen = before if before is not None and before.state == state else _Seen(state, now)
        self._current[picture.name] = seen
        is_lone_raw = not picture.others and os.path.splitext(name)[1].lower() in RAW_SUFFIXES  # noqa: PTH122
        return now - seen.since >= (self._raw_s if is_lone_raw else STILL_S)
