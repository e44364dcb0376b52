"""Gather subjects for scenes: photographs of things without their background, under free licences.

They are the photographic ones of Tux Paint's stamps, whose transparency is their outline. It knows one package, its
files and how they are split; it does not know where a subject is put, or what a model learns from it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .photos import FREE_LICENCES, Photo, fetch_package, licence_of, package_files, read_copyright

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "tuxpaint-stamps-default"
PATTERNS = (
    "*/animals/amphibians/*.png", "*/animals/birds/*.png", "*/animals/lizards/*.png", "*/animals/mammals/*.png",
    "*/animals/marsupials/*.png", "*/food/fruit/*.png", "*/food/nuts/*.png", "*/food/vegetables/*.png",
    "*/plants/flowers/*.png", "*/plants/mushrooms/*.png", "*/plants/trees/*.png", "*/vehicles/*.png",
    "*/hobbies/music/string/*.png",
)  # fmt: skip
DRAWINGS = ("*cartoon*", "*hedgehog*", "*_mirror*", "*/toys/*", "*/plastic/*", "*pizza*")
SIDE_MIN = 150
"""Smaller ones would have to be enlarged, which looks like a fault."""


def cut(content: bytes) -> Image.Image | None:
    """Return a subject as RGBA, cropped to its outline; None for what has none, or is too small."""
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    opaque = np.asarray(image.getchannel("A"))
    box = image.getchannel("A").point([0] * 128 + [255] * 128).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < SIDE_MIN or (opaque < 128).mean() < 0.08:
        return None
    return image.crop(box)


def gather(cache: Path) -> list[Photo]:
    """Fill `cache` with subjects and the table of their provenance; later calls read the table.

    The split is drawn by name: of ten, seven are for training, one or two each for validation and test.
    """
    table = cache / "cutouts.json"
    if table.exists():
        return [Photo(**row) for row in json.loads(table.read_text("utf-8"))]
    tree, version = fetch_package(PACKAGE, cache / "packages")
    paragraphs = read_copyright((tree / f"usr/share/doc/{PACKAGE}/copyright").read_text("utf-8"))
    (cache / "cutouts").mkdir(parents=True, exist_ok=True)
    found: list[Photo] = []
    for path, content in package_files(tree, PATTERNS):
        licence, author = licence_of(path, paragraphs)
        drawn = any(fnmatch.fnmatch(path, pattern) for pattern in DRAWINGS)
        image = None if drawn or not FREE_LICENCES.match(licence) else cut(content)
        digest = hashlib.sha256(content).hexdigest()
        if image is None or digest in {photo.sha256 for photo in found}:
            continue
        draw = int(digest[:8], 16) / 2**32
        split = "test" if draw < 0.15 else "validation" if draw < 0.3 else "train"
        found.append(Photo(f"{PACKAGE}/{path}", path, PACKAGE, version, licence, author, digest, path, split))
        image.save(cutout_path(cache, found[-1]))
    new = table.with_suffix(".new")
    new.write_text(json.dumps([asdict(photo) for photo in found], indent=1), "utf-8")
    new.replace(table)
    return found


def cutout_path(cache: Path, photo: Photo) -> Path:
    """Return where a gathered subject lies."""
    return cache / "cutouts" / f"{photo.sha256[:16]}.png"


def load(cache: Path, photo: Photo) -> Image.Image:
    """Return one gathered subject, RGBA."""
    return Image.open(cutout_path(cache, photo)).convert("RGBA")
