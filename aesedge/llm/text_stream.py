"""Turn the bytes of tokens into text: whole UTF-8 characters, with possible stop strings held back."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


# Between two sentences: 3.5, "e.g. blur" and the number of a list's item end none. A line break ends one.
_BETWEEN = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))(?<!^[0-9]\.)[^\S\n]+(?=[^\sa-z])|\s*\n\s*(?=\S)", re.MULTILINE
)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text; the last one may have no end."""
    return _BETWEEN.split(text.strip())


class TextStream:
    """Turns the bytes of one answer's tokens into pieces of text.

    A character whose bytes are spread over several tokens is returned once it is complete. Text that may begin a stop
    string is held back until that is decided, so no part of a stop string is returned. Leading space is dropped.

    Args:
        stop: texts that end the answer and are not shown.
        sentences: number of sentences after which the answer ends; None for no limit.
    """

    def __init__(self, stop: Sequence[str] = (), sentences: int | None = None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [s for s in stop if s]
        self._held = ""
        self._started = False
        self._sentences = sentences
        self._shown = ""
        self.stopped = False
        """Whether a stop string or the last sentence's end was met; nothing comes after it."""

    def feed(self, data: bytes) -> str:
        """Take the bytes of one token; return the text that may be shown now, often empty."""
        return self._release(self._decoder.decode(data), final=False)

    def finish(self) -> str:
        """Return what was held back, at the end of the answer; half characters become U+FFFD."""
        return self._release(self._decoder.decode(b"", final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for s in self._stop if (at := text.find(s)) >= 0]
        if found:
            self.stopped = True
            text, self._held = text[: min(found)], ""
        else:
            n_held = 0 if final else self._n_held_back(text)
            text, self._held = text[: len(text) - n_held], text[len(text) - n_held :]
        if not self._started:
            text = text.lstrip()
            self._started = bool(text)
        return text if self._sentences is None else self._within_sentences(text, self._sentences)

    def _within_sentences(self, text: str, most: int) -> str:
        """Return what of a text still belongs to the first sentences."""
        n_before = len(self._shown)
        self._shown += text
        ends = [match.start() for match in _BETWEEN.finditer(self._shown)]
        if len(ends) < most:
            return text
        self.stopped, self._held = True, ""
        return self._shown[n_before : ends[most - 1]]

    def _n_held_back(self, text: str) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(s) - 1 for s in self._stop), default=0)
        return next((n for n in range(min(longest, len(text)), 0, -1) if self._is_beginning(text[-n:])), 0)

    def _is_beginning(self, end: str) -> bool:
        return any(s.startswith(end) for s in self._stop)
