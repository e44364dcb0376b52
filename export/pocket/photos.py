"""Gather the source photographs: free licences only, provenance for each, split by source photograph.

It knows packages, copyright files and near-duplicates; it does not know faults, models or text.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import io
import itertools
import json
import re
import subprocess
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from .rcc import read_rcc

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_SIDE = 960
"""Photographs are stored with at most this long side: the tower sees 480 pixels."""
SHORT_SIDE_MIN = 200

# Package -> patterns of the files that are photographs. Drawings, renderings and interface pictures are left
# out by not being listed (and by NOT_PHOTOGRAPHS below).
PACKAGES: dict[str, tuple[str, ...]] = {
    "lomiri-wallpapers-16.04": ("*.jpg",),
    "lomiri-wallpapers-20.04": ("*.jpg",),
    "mate-backgrounds": ("*/nature/*.jpg",),
    "plasma-workspace-wallpapers": ("*/images/2560x1600.jpg",),
    "palapeli-data": ("*/collection/*.jpg",),
    "python3-sklearn": ("*/datasets/images/*.jpg",),
    "gcompris-qt-data": (
        "*explore_monuments/*", "*explore_world_animals/*", "*explore_farm_animals/*", "*explore_world_music/*",
        "*categorization/*", "*erase/*", "*details/*",
    ),
    "puzzle-jigsaw": ("*/samples/pexels-photo-302304.jpeg",),
}  # fmt: skip
HELD_OUT = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "palapeli-data", "python3-sklearn")
"""Whole sources that training never sees: every photograph of them is a test photograph."""
CQ100 = "CQ100"
"""M. E. Celebi and M. L. Perez-Delgado, CQ100: a high-quality image dataset for color quantization research, 2023."""
NEVER_TEST = ("puzzle-jigsaw",)
"""Sources that joined after the test photographs had judged a model: those stay the same."""
NOT_PHOTOGRAPHS = ("*Gogh*", "*PereTanguy*", "*Eglise_dAuvers*", "*numbers*", "*alphabets*", "*Painting-Colors*",
                   "*analogpattern*")  # fmt: skip
FREE_LICENCES = re.compile(
    r"^(cc0|cc-by(-sa)?-[0-9.]+|public-domain|pd|gpl|lgpl|gfdl|bsd|expat|mit|artistic)", re.IGNORECASE
)
SKIMAGE_FILES = {
    "astronaut.png": ("public-domain", "NASA"),
    "chelsea.png": ("CC0", "Stefan van der Walt"),
    "coffee.png": ("CC0", "Rachel Michetti"),
    "rocket.jpg": ("public-domain", "SpaceX"),
}
"""Licence and author as the docstrings of ``skimage.data`` state them, or else as the package is licensed."""
STATED = {
    "china.jpg": ("CC-BY-2.0", "danielbuechele, flickr.com/photos/danielbuechele/6061409035"),
    "flower.jpg": ("CC-BY-2.0", "vultilion, flickr.com/photos/vultilion/6056698931"),
}
"""scikit-learn's pictures: the README beside them says more than Debian's copyright file."""


@dataclass(frozen=True)
class Photo:
    """One source photograph; `split` is train, validation or test."""

    name: str
    file: str
    package: str
    version: str
    licence: str
    author: str
    sha256: str
    group: str = ""
    split: str = ""


def run(*command: str, cwd: Path) -> str:
    """Run one of Debian's tools and return what it prints."""
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout  # noqa: S603


def fetch_package(name: str, cache: Path) -> tuple[Path, str]:
    """Download one Debian package with apt and unpack it; return its folder and version."""
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / name
    if not list(cache.glob(f"{name}_*.deb")):
        run("apt-get", "download", name, cwd=cache)
    archive = max(cache.glob(f"{name}_*.deb"))
    if not tree.exists():
        run("dpkg-deb", "-x", str(archive), str(tree), cwd=cache)
    return tree, run("dpkg-deb", "-f", str(archive), "Version", cwd=cache).strip()


def read_copyright(text: str) -> list[tuple[list[str], str, str]]:
    """Return (file patterns, authors, licence) of each Files paragraph of a Debian copyright file."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", text):
        fields = {m[0].lower(): m[1] for m in re.findall(r"^([\w-]+):(.*(?:\n[ \t].*)*)", block, re.MULTILINE)}
        if "files" in fields and "license" in fields:
            authors = "; ".join(line.strip() for line in fields.get("copyright", "").splitlines() if line.strip())
            paragraphs.append((fields["files"].split(), authors, fields["license"].strip().splitlines()[0].strip()))
    return paragraphs


def licence_of(path: str, paragraphs: list[tuple[list[str], str, str]]) -> tuple[str, str]:
    """Return (licence, authors) of a file: the last paragraph that matches wins, as Debian's format says.

    Installed paths differ from source paths in front (then the file's name alone must do), and GCompris turned its
    pictures into WebP.
    """
    stem = re.sub(r"\.\w+$", "", path)
    by_path, by_name, by_default = ("", ""), ("", ""), ("", "")
    for patterns, authors, licence in paragraphs:
        for pattern in patterns:
            bare = re.sub(r"^src/activities/", "", re.sub(r"\.\w+$", "", pattern))
            if pattern == "*":
                by_default = (licence, authors)
            elif fnmatch.fnmatch("/" + stem, "*/" + bare):
                by_path = (licence, authors)
            elif Path(bare).name == Path(stem).name:
                by_name = (licence, authors)
    return next((found for found in (by_path, by_name, by_default) if found[0]), by_default)


def package_files(tree: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of the listed files of an unpacked package, resource files included."""
    for path in sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink()):
        if path.suffix == ".rcc":
            inside = ((f"{path.stem}/{name}", content) for name, content in read_rcc(path))
            yield from ((name, content) for name, content in inside if any(fnmatch.fnmatch(name, p) for p in patterns))
        elif any(fnmatch.fnmatch(str(path), p) for p in patterns):
            yield str(path.relative_to(tree)), path.read_bytes()


def decode(content: bytes) -> Image.Image | None:
    """Return the picture as RGB with its long side at LONG_SIDE or less; None for what is no opaque photograph."""
    image: Image.Image
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError):
        return None
    if image.mode in ("RGBA", "LA", "P") and np.asarray(image.convert("RGBA").getchannel("A")).min() < 250:
        return None
    if min(image.size) < SHORT_SIDE_MIN:
        return None
    image = image.convert("RGB")
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def perceptual_hash(image: Image.Image) -> npt.NDArray[np.bool_]:
    """Return 64 bits that stay nearly the same when a picture is resized or recompressed."""
    from scipy.fft import dctn

    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    low = dctn(grey, norm="ortho")[:8, :8].ravel()
    return np.asarray(low > np.median(low), dtype=np.bool_)


def assign_splits(photos: list[Photo], hashes: list[npt.NDArray[np.bool_]], seed: int) -> list[Photo]:
    """Give every photograph its split; near-duplicates (hashes within 10 bits) always share one."""
    group = list(range(len(photos)))
    for i in range(len(photos)):
        for j in range(i):
            if int(np.sum(hashes[i] != hashes[j])) <= 10:
                group = [group[j] if g == group[i] else g for g in group]
    result = []
    for photo, number in zip(photos, group, strict=True):
        members = [photos[k] for k in range(len(photos)) if group[k] == number]
        leader = min(m.name for m in members)
        draw = int(hashlib.sha256(f"{seed}:{leader}".encode()).hexdigest()[:8], 16) / 2**32
        split = "test" if draw < 0.11 else "validation" if draw < 0.27 else "train"
        if any(m.package in HELD_OUT for m in members):
            split = "test"
        elif split == "test" and all(m.package in NEVER_TEST for m in members):
            split = "train"
        if all(m.package == CQ100 for m in members):
            split = "train"
        result.append(replace(photo, group=leader, split=split))
    return result


def cq100_sources(folder: Path) -> Iterator[tuple[Photo, Image.Image]]:
    """Yield the photographs of CQ100, each with the licence and the author that its table states.

    Raises:
        FileNotFoundError: there is no such table.
    """
    table = folder / "metadata.csv"
    if not table.is_file():
        raise FileNotFoundError(f"{table}: not found; --cq100 takes img/CQ100 of github.com/IanManske/quantette")
    with table.open(newline="", encoding="utf-8") as file:
        known = {row["Modified Filename"]: row for row in csv.DictReader(file)}
    for path in sorted((folder / "img").glob("*.png")):
        content, row = path.read_bytes(), known[path.stem]
        image = decode(content)
        if image is not None:
            digest = hashlib.sha256(content).hexdigest()
            yield Photo(f"{CQ100}/{path.name}", path.name, CQ100, "", row["License"], row["Author"], digest), image


def sources(cache: Path) -> Iterator[tuple[Photo, Image.Image]]:
    """Yield every photograph that has a free licence, with its provenance."""
    for package, patterns in PACKAGES.items():
        tree, version = fetch_package(package, cache / "packages")
        paragraphs = read_copyright((tree / f"usr/share/doc/{package}/copyright").read_text("utf-8"))
        for path, content in package_files(tree, patterns):
            if any(fnmatch.fnmatch(path, pattern) for pattern in NOT_PHOTOGRAPHS):
                continue
            licence, author = STATED.get(Path(path).name) or licence_of(path, paragraphs)
            image = decode(content) if FREE_LICENCES.match(licence) else None
            if image is not None:
                digest = hashlib.sha256(content).hexdigest()
                yield Photo(f"{package}/{path}", path, package, version, licence, author, digest), image
    yield from skimage_sources()


def skimage_sources() -> Iterator[tuple[Photo, Image.Image]]:
    """Yield scikit-image's photographs, which need no download."""
    import skimage

    for name, (licence, author) in SKIMAGE_FILES.items():
        content = (Path(skimage.__file__).parent / "data" / name).read_bytes()
        image = decode(content)
        if image is not None:
            digest = hashlib.sha256(content).hexdigest()
            yield (
                Photo(
                    f"scikit-image/{name}",
                    name,
                    "scikit-image",
                    metadata.version("scikit-image"),
                    licence,
                    author,
                    digest,
                ),
                image,
            )


def gather(cache: Path, cq100: Path | None = None, *, seed: int = 0) -> list[Photo]:
    """Fill `cache` with photographs and their provenance table; later calls read the table.

    Args:
        cache: folder to fill.
        cq100: folder of CQ100, none to do without.
        seed: of the splits.
    """
    table = cache / "provenance.json"
    if table.exists():
        return [Photo(**row) for row in json.loads(table.read_text("utf-8"))]
    (cache / "photos").mkdir(parents=True, exist_ok=True)
    photos: list[Photo] = []
    hashes: list[npt.NDArray[np.bool_]] = []
    more = cq100_sources(cq100) if cq100 else iter(())
    for photo, image in itertools.chain(sources(cache), more):
        if photo.sha256 in {p.sha256 for p in photos}:
            continue
        path = photo_path(cache, photo)
        if path.suffix == ".png":
            image.save(path)
        else:
            image.save(path, quality=97, subsampling=0)
        photos.append(photo)
        hashes.append(perceptual_hash(image))
    photos = assign_splits(photos, hashes, seed)
    table.write_text(json.dumps([asdict(p) for p in photos], indent=1), "utf-8")
    return photos


def photo_path(cache: Path, photo: Photo) -> Path:
    """Return where a gathered photograph lies."""
    return cache / "photos" / f"{photo.sha256[:16]}.{'png' if photo.package == CQ100 else 'jpg'}"


def load(cache: Path, photo: Photo) -> Image.Image:
    """Return one gathered photograph, RGB."""
    return Image.open(photo_path(cache, photo)).convert("RGB")
