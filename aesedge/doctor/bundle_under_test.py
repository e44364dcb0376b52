"""Open the examined model as often as needed, each time over caches of its own, and read photos with a fresh one."""

from __future__ import annotations

import dataclasses
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from aesedge.config.plan import ROOM_FOR_TEXT
from aesedge.doctor import probe
from aesedge.engine.model import Model
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options
    from aesedge.engine.likelihood import Likelihood
    from aesedge.engine.results import Rating

N_PHOTOS = 3
"""Photos at least: with three, every order of "this one, then that one" has a third one in between."""


@dataclass(frozen=True)
class BundleUnderTest:
    """A bundle and how it is loaded.

    Args:
        bundle: the bundle.
        options: what the user chose; a context below the default is raised, because several questions need room.
        folder: an empty folder, for everything that is kept. The user's own cache is not touched.
    """

    bundle: Bundle
    options: Options
    folder: Path
    _numbers: itertools.count[int] = dataclasses.field(default_factory=itertools.count)

    def new_folder(self) -> Path:
        """Return a folder that is not there yet."""
        return self.folder / f"cache-{next(self._numbers)}"

    def fresh(self, *, ctx: int | None = None) -> Model:
        """Open a model that keeps nothing on disk."""
        return Model(self.bundle, self._options(self.new_folder(), cache="0", ctx=ctx or self._ctx()))

    def kept(self, folder: Path) -> Model:
        """Open a model that keeps everything in a folder, however little it is worth."""
        return Model(self.bundle, self.keeping(folder))

    def keeping(self, folder: Path) -> Options:
        """Return the options of such a model."""
        return self._options(folder, cache="100GB", ctx=self._ctx())

    def _ctx(self) -> int | None:
        asked = self.options.ctx
        return asked if asked and asked >= self.bundle.manifest.image_tokens.max + 2 * ROOM_FOR_TEXT else None

    def _options(self, folder: Path, *, cache: str, ctx: int | None) -> Options:
        return dataclasses.replace(self.options, cache_folder=folder, cache=cache, ctx=ctx, worth_keeping_s=0.0)


class ColdReference:
    """Readings of a model that has just been opened over empty caches and does this one thing; each is read once."""

    def __init__(self, under_test: BundleUnderTest) -> None:
        self._under_test = under_test
        self._texts: dict[tuple[Path, tuple[int, ...]], Likelihood] = {}
        self._ratings: dict[Path, Rating] = {}
        self.took_s = 0.0
        """Time of the slowest reading, loading included."""

    def seen(self, path: Path) -> probe.Seen:
        """Return text and score of a photo, each from a model of its own."""
        return probe.Seen(self.text(path), self.rating(path))

    def text(self, path: Path, prompt: Sequence[int] | None = None) -> Likelihood:
        """Return the text after a prompt, by default the one that it answers."""
        place = (path, tuple(prompt or ()))
        if place not in self._texts:
            started = time.perf_counter()
            with self._under_test.fresh() as model, model.look(path) as photo:
                self._texts[place] = probe.begin(model, photo, [prompt or probe.prompt(model)]).wait()[0]
            self.took_s = max(self.took_s, time.perf_counter() - started)
        return self._texts[place]

    def rating(self, path: Path) -> Rating:
        """Return the score."""
        if path not in self._ratings:
            with self._under_test.fresh() as model, model.look(path) as photo:
                self._ratings[path] = photo.score()
        return self._ratings[path]


def photos_for(given: Sequence[Path], folder: Path) -> list[Path]:
    """Return the given photos, and as many others as are needed: the samples, and stripes that are like no photo."""
    drawn = folder / "drawn.png"
    stripes = Image.new("RGB", (2, 1))
    stripes.putdata([(200, 60, 20), (20, 90, 180)])
    stripes.resize((384, 288), Image.Resampling.BICUBIC).save(drawn)
    known = {path.resolve() for path in given}
    others = [path for path in (*SAMPLE_PHOTOS, drawn) if path.resolve() not in known]
    return [*given, *others[: max(0, N_PHOTOS - len(given))]]
