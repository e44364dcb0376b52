"""What is measured: pictures in, scores and answers out, from the runtime; and plain measures to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .questions import CRITIQUE_QUESTION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image


@dataclass(frozen=True)
class Judged:
    """What is said of one picture."""

    score: float
    """0 to 10."""
    critique: str
    attributes: dict[str, float]
    """Attribute to its score, 0 to 10."""


class Evaluator(Protocol):
    """A bundle in the runtime, or what stands for it in a test."""

    def judge(self, images: Sequence[Image.Image], *, critiques: bool = True) -> list[Judged]:
        """Return what is said of each picture."""
        ...

    def answers_about(self, image: Image.Image, questions: Sequence[str]) -> list[str]:
        """Return the answer to each question about one picture."""
        ...


class BundleEvaluator:
    """A bundle behind aesedge's public API."""

    def __init__(self, bundle: str, **options: Any) -> None:
        import aesedge

        self.model = aesedge.load_model(bundle, **options)

    def judge(self, images: Sequence[Image.Image], *, critiques: bool = True) -> list[Judged]:
        """Look at each picture once."""
        found = []
        for image in images:
            with self.model.look(image) as photo:
                text = photo.ask(CRITIQUE_QUESTION).text.strip() if critiques else ""
                score, attributes = photo.score_and_attributes()
                found.append(Judged(score.score, text, {name: a.score for name, a in attributes.items()}))
        return found

    def answers_about(self, image: Image.Image, questions: Sequence[str]) -> list[str]:
        """Ask one after the other, so that memory does not depend on how many there are."""
        with self.model.look(image) as photo:
            return [photo.ask(question).text.strip() for question in questions]


def sharpness(image: Image.Image) -> float:
    """Return the variance of the Laplacian."""
    from scipy.ndimage import laplace

    return float(laplace(np.asarray(image.convert("L"), dtype=np.float64)).var())


def brightness_fit(image: Image.Image) -> float:
    """Return how near the mean brightness is to the middle."""
    return -abs(float(np.asarray(image.convert("L")).mean()) - 118.0)


def contrast(image: Image.Image) -> float:
    """Return the standard deviation of brightness."""
    return float(np.asarray(image.convert("L")).std())


BASELINES: dict[str, Callable[[Image.Image], float]] = {
    "variance of the Laplacian": sharpness, "mean brightness near the middle": brightness_fit, "contrast": contrast,
}  # fmt: skip
"""Plain measures; higher is better."""


def add_brisque() -> None:
    """Let BRISQUE, trained by others on people's opinions, be a baseline.

    ``pip install brisque[opencv-python-headless]``; it is no dependency, because it brings OpenCV and a library that
    must be compiled.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    from brisque import BRISQUE  # type: ignore[import-not-found, unused-ignore]

    model = BRISQUE(url=False)
    scale = model.scale_features  # brisque 0.2.0 hands it arrays of one number, which NumPy 2.4 takes for no numbers
    model.scale_features = lambda features: scale([float(np.ravel(f)[0]) for f in features])
    BASELINES["BRISQUE"] = lambda image: -float(model.score(np.asarray(image)))
