"""Rate folders: find what is new, judge it, write texts about the best, group bursts."""

from __future__ import annotations

import dataclasses
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from aesedge.config.planning import make_plan
from aesedge.engine.model import Model
from aesedge.errors import CatalogueError
from aesedge.library.bursts import regroup
from aesedge.library.first_pass import judge_by_first_pass
from aesedge.library.judging import Failed, Judge, Judged, Texts, recognise_changed, write_texts
from aesedge.library.settings import settings_of
from aesedge.library.survey import Survey, Surveyor
from aesedge.system.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options
    from aesedge.errors import AesedgeError
    from aesedge.library.catalogue_writer import CatalogueWriter
    from aesedge.library.finding import Picture, Shard
    from aesedge.library.first_pass import Estimated
    from aesedge.library.judging import Event


class TextWritten(NamedTuple):
    """A photo that had a score has its texts now, or an error that keeps it from having them."""

    name: str
    error: AesedgeError | None


class Note(NamedTuple):
    """A sentence about the whole run."""

    text: str


class Begun(NamedTuple):
    """What there is to do."""

    survey: Survey


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatingOptions:
    """What is done with each photo."""

    texts: Texts = dataclasses.field(default_factory=Texts)
    n_best: int | None = None
    """About how many of the best photos texts are written; None for all."""
    retry: bool = False
    first_pass: float | None = None
    """Share of the photos that the language model judges; None for all."""
    shard: Shard | None = None


class Rater(Closing):
    """Rates folders into catalogues; the model is loaded when there is something to judge, and stays.

    Args:
        bundle: whose model judges.
        options: how it is loaded.
        how: what is done with each photo.
        progress: called with the fraction of the model that is loaded.
    """

    def __init__(
        self, bundle: Bundle, options: Options, how: RatingOptions, progress: Callable[[float], None] | None = None
    ) -> None:
        # The purpose is always the same: what was tuned for another one may have another precision.
        self._options = dataclasses.replace(options, purpose="score", photos=4 if how.texts else 1)
        self._bundle, self._how, self._progress = bundle, how, progress
        self.settings = settings_of(bundle, make_plan(self._options, bundle))
        """What its judgements depend on."""
        self._model: Model | None = None
        self._resources = ExitStack()

    def rate(
        self, catalogue: CatalogueWriter, folders: Sequence[str], is_wanted: Callable[[Picture], bool] | None = None
    ) -> Iterator[Event | Estimated | TextWritten | Note | Begun]:
        """Rate the photos in folders; everything is kept before it is yielded.

        Args:
            catalogue: where results are kept.
            folders: folders or photos.
            is_wanted: whether a picture that would be judged is judged now; None for all.
        """
        roots = [os.path.realpath(folder) for folder in folders]
        settings, survey = catalogue.use_settings(self.settings), self.survey(catalogue, folders)
        if is_wanted is not None:
            survey.new = list(filter(is_wanted, survey.new))
            survey.changed = list(filter(is_wanted, survey.changed))
        yield Begun(survey)
        is_changed = False
        for event in self._judge(catalogue, settings, survey):
            is_changed |= isinstance(event, Judged)
            yield event
        if is_changed:
            regroup(catalogue)
        if self._how.texts:
            yield from self._write_texts(catalogue, settings, roots)

    @property
    def recipe(self) -> tuple[str, Options, RatingOptions]:
        """What another process makes such a rater of: the bundle's folder, how it is loaded, what is done to a part."""
        how = self._how if self._how.n_best is None else dataclasses.replace(self._how, texts=Texts(), n_best=None)
        return str(self._bundle.folder), self._options, how

    def survey(self, catalogue: CatalogueWriter, folders: Sequence[str]) -> Survey:
        """Find out which photos in folders have yet to be judged, and note what moved."""
        how = self._how
        surveyor = Surveyor(
            catalogue, catalogue.use_settings(self.settings), how.retry, how.first_pass is not None, how.shard
        )
        return surveyor.survey(map(os.path.realpath, folders))

    def _judge(self, catalogue: CatalogueWriter, settings: int, survey: Survey) -> Iterator[Event | Estimated | Note]:
        new = survey.new
        spec = self._bundle.manifest.image
        for picture, recognised in recognise_changed(catalogue, settings, spec, survey.changed):
            if recognised is None:
                new.append(picture)
            else:
                yield recognised
        alone: list[Picture] = []  # files whose better companion failed
        while new:
            by_name = {picture.name: picture for picture in new if picture.others}
            texts = self._how.texts if self._how.n_best is None else Texts()
            judge = Judge(self.open_model(), catalogue, settings, texts)
            for event in self._judged(judge, catalogue, settings, new):
                yield event
                if isinstance(event, Failed) and event.name in by_name:
                    picture = by_name[event.name]
                    alone += [type(picture)(other) for other in picture.others]
            new, alone = alone, []

    def _judged(
        self, judge: Judge, catalogue: CatalogueWriter, settings: int, pictures: Iterable[Picture]
    ) -> Iterator[Event | Estimated | Note]:
        if self._how.first_pass is None:
            yield from judge.judge(pictures)
            return
        for event in judge_by_first_pass(judge, catalogue, settings, list(pictures), self._how.first_pass):
            yield Note(event) if isinstance(event, str) else event

    def _write_texts(self, catalogue: CatalogueWriter, settings: int, roots: Sequence[str]) -> Iterator[TextWritten]:
        """Write the texts that are wanted and are not there yet."""
        texts = self._how.texts
        photos = {
            photo.content: photo
            for root in roots
            for photo in catalogue.judgements(root, settings=settings)
            if photo.score_from == "model" and not photo.is_away
        }
        best = sorted(photos.values(), key=lambda photo: -photo.score)[: self._how.n_best]
        missing = [
            (photo.path, photo.content)
            for photo in best
            if (texts.critique and photo.critique is None) or (texts.report and photo.report is None)
        ]
        if missing:
            for name, error in write_texts(self.open_model(), catalogue, settings, texts, missing):
                yield TextWritten(name, error)

    def open_model(self) -> Model:
        """Return the model, loaded if it was not."""
        if self._model is None:
            self._model = self._resources.enter_context(Model(self._bundle, self._options, self._progress))
            found = settings_of(self._bundle, self._model.internals.plan)
            if found != self.settings:
                raise CatalogueError(f"the model was loaded as {found}, not as {self.settings}; name the settings")
        return self._model

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        self._resources.close()
