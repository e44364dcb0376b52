"""What ``run`` asks about each photo, and its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.cli.result_text import show_ratings, show_reply, show_report
from aesedge.cli.terminal import status
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aesedge.engine.answer import AnswerStream
    from aesedge.engine.generation_options import GenerationOptions
    from aesedge.engine.photo import Photo
    from aesedge.engine.results import PhotoResult, Rating, Report


@dataclass(frozen=True, kw_only=True)
class PhotoTask:
    """What is asked, and how answers are written; None asks for none."""

    critique: GenerationOptions | None
    report: GenerationOptions | None
    questions: Sequence[str]
    answers: GenerationOptions
    pin: bool

    def ask(self, photo: Photo) -> PhotoReport:
        """Rate a photo, and have all its texts written from now on."""
        score, attributes = photo.score_and_attributes()
        if self.pin:
            photo.pin()
        critique = photo.stream_critique(self.critique) if self.critique else None
        answers = [(question, photo.stream(question, self.answers)) for question in self.questions]
        return PhotoReport(photo, score, attributes, critique, answers, self.report)


@dataclass
class PhotoReport:
    """The results for one photo; texts may still be generated."""

    photo: Photo
    score: Rating
    attributes: Mapping[str, Rating]
    critique: AnswerStream | None
    answers: Sequence[tuple[str, AnswerStream]]
    report_writing: GenerationOptions | None
    report: Report | None = None

    def finished(self) -> PhotoReport:
        """Wait until everything is written."""
        self.write_report()
        for reply in (self.critique, *(reply for _, reply in self.answers)):
            if reply is not None:
                reply.read()
        return self

    def write_report(self) -> None:
        """Write the report if it is wanted and was not written yet."""
        if self.report_writing is not None and self.report is None:
            self.report = self.photo.report(self.report_writing)

    def result(self) -> PhotoResult:
        """Return it in the form of ``--json``."""
        return self.photo.result(
            self.score,
            self.attributes,
            critique=self.critique.read() if self.critique else None,
            report=self.report,
            answers=[(question, stream.read()) for question, stream in self.answers],
        )

    def show(self, *, quiet: bool) -> None:
        """Print it; texts that are being written come piece by piece."""
        show_ratings(self.photo.name, self.score, self.attributes, remarks=self.photo.remarks)
        for question, reply in [*([("", self.critique)] if self.critique else []), *self.answers]:
            print(f"\n  > {sanitize(question, lines=True)}" if question else "", flush=True)
            show_reply(reply)
        if self.report_writing is not None:
            with status("writing the report", quiet=quiet):
                self.write_report()
        if self.report is not None:
            print()
            show_report(self.report)
        print(flush=True)
