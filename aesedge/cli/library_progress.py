"""Show how far the rating of a library is: photos a minute, time left, and what failed."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from aesedge.cli.photos import Failures
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bar, print_error, takes_escapes
from aesedge.library.first_pass import Estimated
from aesedge.library.judging import Failed, Judged, Recognised, WentAway
from aesedge.library.rating import Begun, Note, TextWritten
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aesedge.cli.options import Printing
    from aesedge.errors import AesedgeError
    from aesedge.library.judging import Event
    from aesedge.library.survey import Survey

_CLEAR_LINE = "\r\x1b[2K"
_WINDOW_S, _LEAST_S = 60.0, 5.0
_REDRAW_S, _LOG_S = 0.1, 60.0


class LibraryProgress:
    """Counts events and shows them."""

    def __init__(self, printing: Printing) -> None:
        self._printing = printing
        self._failures = Failures(printing)
        self._is_drawn = takes_escapes(sys.stderr)
        self._pause_s = _REDRAW_S if self._is_drawn else _LOG_S
        self._ends: deque[float] = deque()
        """When photos of the last minute were done."""
        self._began = self._drawn_at = self._judging_began = time.monotonic()
        self._is_line_open = False
        self._told: set[str] = set()
        self._n_elsewhere = 0
        self.survey: Survey | None = None
        self.n_judged = self.n_recognised = self.n_away = self.n_texts = self.n_estimated = self.n_failed = 0

    @property
    def surveyed_at(self) -> float:
        """When it was known what there is to do, by ``time.monotonic``."""
        return self._judging_began

    @property
    def failures(self) -> Failures:
        """Those of this run."""
        return self._failures

    def follow(self, events: Iterable[Event | Estimated | TextWritten | Note | Begun]) -> None:
        """Take all events, and show each."""
        try:
            for event in events:
                self._take(event)
        finally:
            self._clear()

    def _take(self, event: Event | Estimated | TextWritten | Note | Begun) -> None:
        match event:
            case Begun(survey):
                self._begin(survey)
            case Judged(result):
                self.n_judged += 1
                self._count(result.photo)
                if self._printing.json:
                    self._clear()
                    print_json(result.to_builtins())
            case Recognised(name):
                self.n_recognised += 1
                self._count(name)
            case Estimated(name):
                self.n_estimated += 1
                self._count(name)
            case Failed(name, error):
                self._fail(name, error)
                self._count(name)
            case WentAway(name):
                self.n_away += 1
                self._count(name)
            case _:
                self._tell(event)

    def _begin(self, survey: Survey) -> None:
        self.survey = survey
        self._judging_began = time.monotonic()
        self._told &= {str(error) for error in survey.errors}
        for error in survey.errors:
            if str(error) not in self._told:
                self._told.add(str(error))
                self._clear()
                self._failures.add_folder(error)

    def _tell(self, event: TextWritten | Note) -> None:
        if isinstance(event, Note):
            self._clear()
            if not self._printing.quiet:
                print(event.text, file=sys.stderr, flush=True)
        elif event.error is not None:
            self._fail(event.name, event.error)
        else:
            self.n_texts += 1
            if time.monotonic() - self._drawn_at >= self._pause_s:
                self._draw(f"texts about {self.n_texts:,} photos  {sanitize(event.name)}")

    def _fail(self, name: str, error: AesedgeError) -> None:
        self._clear()
        self._failures.add(name, error)
        self.n_failed += 1

    def _count(self, name: str) -> None:
        now = time.monotonic()
        self._ends.append(now)
        while now - self._ends[0] > _WINDOW_S:
            self._ends.popleft()
        if self._printing.quiet:
            return
        if now - self._drawn_at >= self._pause_s:
            self._draw(f"{self._state(now)}  {sanitize(name)}")

    def _state(self, now: float) -> str:
        n = len(self.survey.new) + len(self.survey.changed) if self.survey else 0
        n_done = self.n_judged + self.n_recognised + self.n_estimated + self.n_away + self.n_failed
        took = min(_WINDOW_S, now - self._judging_began)
        state = f"{n_done:,} of {n:,} photos"
        if took < _LEAST_S or len(self._ends) < 2:
            return state
        rate = len(self._ends) / took
        return f"{state}, {60 * rate:.0f} a minute, {duration(max(0, n - n_done) / rate)} left"

    def _draw(self, text: str) -> None:
        if self._printing.quiet:
            return
        self._drawn_at = time.monotonic()
        if not self._is_drawn:
            print(text, file=sys.stderr, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(_CLEAR_LINE + set_cell_size(text, min(width, cell_len(text))))
        sys.stderr.flush()
        self._is_line_open = True

    def show_loading(self, fraction: float) -> None:
        """Show that the model is loaded."""
        if self._is_drawn:
            self._draw(f"loading the model {fraction:4.0%} {bar(fraction)}")

    def fail_elsewhere(self, name: str, error: AesedgeError) -> None:
        """Report a photo that failed on another machine; the survey here finds that it failed before."""
        self._n_elsewhere += 1
        self._fail(name, error)

    def show_parts(self, n_done: int, n_parts: int) -> None:
        """Show how many parts of a library a cluster has done."""
        self._draw(f"{n_done:,} of {n_parts:,} parts are judged")

    def _clear(self) -> None:
        if self._is_line_open:
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()
            self._is_line_open = False

    def summary(self) -> str:
        """Return in one line what was done."""
        survey = self.survey
        took = time.monotonic() - self._judging_began
        rate = f" in {duration(took)}, {60 * self.n_judged / took:.0f} a minute" if self.n_judged and took else ""
        parts = [f"{self.n_judged:,} judged{rate}"] if self.n_judged else []
        known = self.n_recognised + (survey.n_known if survey else 0)
        parts += [f"{self.n_estimated:,} estimated"] if self.n_estimated else []
        parts += [f"{known:,} known"] if known else []
        parts += [f"texts about {self.n_texts:,}"] if self.n_texts else []
        parts += [f"{self.n_failed:,} failed"] if self.n_failed else []
        n_before = (survey.n_failed_before if survey else 0) - self._n_elsewhere
        parts += [f"{n_before:,} failed before (--retry tries them again)"] if n_before > 0 else []
        n_away = self.n_away + (survey.n_away if survey else 0)
        parts += [f"{n_away:,} away"] if n_away else []
        return f"{survey.n if survey else 0:,} photos: {', '.join(parts) or 'nothing to do'}"

    def begin_round(self) -> None:
        """Count from nothing, for the next look of ``watch``."""
        self.survey = None
        self.n_judged = self.n_recognised = self.n_away = self.n_texts = self.n_estimated = self.n_failed = 0

    def end_round(self) -> None:
        """Say what a look of ``watch`` has found, if it was anything."""
        self._clear()
        if (self.n_judged or self.n_texts) and not self._printing.quiet:
            stream = sys.stderr if self._printing.json else sys.stdout
            print(f"{time.strftime('%H:%M:%S')}  {self.summary()}", file=stream, flush=True)

    def tell_once(self, text: str) -> None:
        """Print an error, unless it was printed before."""
        if text not in self._told:
            self._told.add(text)
            self.stop(text)

    def stop(self, reason: str) -> None:
        """Say why the run ends early."""
        self._clear()
        print_error(reason)


def duration(seconds: float) -> str:
    """Return a time in words: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
