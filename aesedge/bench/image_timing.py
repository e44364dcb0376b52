"""From the file to the image embeddings, step by step: decode, preprocess, vision tower; knows no language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from aesedge.bench.fixture import Stopwatch, Subject
from aesedge.bench.result import Row
from aesedge.bench.rounds import Measurement, Sample
from aesedge.image import preprocess, read_image

if TYPE_CHECKING:
    from pathlib import Path

CAMERA_MEGAPIXELS = 12.0
_FROM_FILE = "reading the disk: the file was read before"


def image_tests(subject: Subject) -> list[Measurement]:
    """Return the tests of what happens to a photo before the language model sees it."""
    spec, tower = subject.model.manifest.image, subject.model.tower
    from_camera = subject.new_photos.write(megapixels=CAMERA_MEGAPIXELS)
    n_image_tokens = subject.model.n_image_tokens
    # Not among the new photos: the same pixels again and again, as nothing here remembers them.
    picture = read_image(subject.photos[0], size_hint=spec.size)
    pixel_values = preprocess(picture, spec)

    def decode(path: Path) -> Sample:
        watch = Stopwatch()
        read_image(path, size_hint=spec.size)
        return watch.sample()

    def prepare() -> Sample:
        copy = picture.copy()
        watch = Stopwatch()
        preprocess(copy, spec)
        return watch.sample()

    def look() -> Sample:
        watch = Stopwatch()
        tower.encode(pixel_values, n_image_tokens)
        return watch.sample()

    def row(name: str, **values: object) -> Row:
        return Row(test=name, group="image", **values)  # type: ignore[arg-type]

    given, camera = _megapixels(subject.photos[0]), _megapixels(from_camera)
    vision = f"vision {subject.model.vision.lower()}"
    return [
        Measurement(row("decode image", n=given, unit="MP", excludes=_FROM_FILE), lambda: decode(subject.photos[0])),
        Measurement(row("decode image 12 MP", n=camera, unit="MP", excludes=_FROM_FILE), lambda: decode(from_camera)),
        Measurement(row("preprocess", n=1, unit="photos", excludes="decoding"), prepare),
        Measurement(row(vision, n=1, unit="photos", n_prompt=n_image_tokens, excludes="preprocessing"), look),
    ]


def _megapixels(path: Path) -> float:
    with Image.open(path) as picture:
        return picture.width * picture.height / 1e6
