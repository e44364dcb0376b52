"""Pictures in folders: pairs, shards, and what their metadata say."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import pytest
from photo_files import capture, jpeg

from aesedge.library.capture import Capture, read_capture
from aesedge.library.finding import Picture, Shard, pictures_in

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


def found(folder: Path, names: list[str]) -> list[tuple[str, ...]]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    errors: list[OSError] = []
    pictures = list(pictures_in(str(folder), errors.append))
    assert not errors
    return [tuple(str(file.path)[len(str(folder)) + 1 :] for file in picture.files) for picture in pictures]


@pytest.mark.parametrize(
    ("names", "pictures"),
    [
        (["a.jpg", "a.CR3", "b.nef", "c.JPEG"], [("a.jpg", "a.CR3"), ("b.nef",), ("c.JPEG",)]),
        (["A.JPG", "a.arw"], [("A.JPG", "a.arw")]),
        (["a.heic", "a.dng", "a.jpg"], [("a.heic",), ("a.jpg", "a.dng")]),
        (["a.heic", "a.dng"], [("a.heic", "a.dng")]),
        (["a.cr2", "a.dng"], [("a.cr2",), ("a.dng",)]),
        (["a.cr2", "a.tif", "a.png"], [("a.cr2",), ("a.png",), ("a.tif",)]),
        (["a.jpg", "x/a.cr2"], [("a.jpg",), ("x/a.cr2",)]),
        (["a.jpg", "a.xmp", "a.jpg.xmp", ".a.cr2", "a.txt"], [("a.jpg",)]),
        (["a.b.jpg", "a.nef"], [("a.b.jpg",), ("a.nef",)]),
    ],
)
def test_a_raw_and_the_finished_photo_of_its_name_are_one_picture(
    names: list[str], pictures: list[tuple[str, ...]], tmp_path: Path
) -> None:
    assert found(tmp_path, names) == pictures


def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    errors: list[OSError] = []
    assert list(pictures_in(str(tmp_path / "none"), errors.append)) == []
    assert len(errors) == 1


def test_shards_are_the_same_wherever_the_folder_lies(tmp_path: Path) -> None:
    shards = []
    for root in (tmp_path / "one", tmp_path / "two" / "deeper"):
        found(root, [f"{i}.jpg" for i in range(60)] + [f"{i}.nef" for i in range(60)])
        pictures: list[Picture] = list(pictures_in(str(root), lambda error: pytest.fail(str(error))))
        numbers = [
            [number for number in range(1, 5) if Shard(number, 4).holds(picture, str(root))] for picture in pictures
        ]
        assert all(len(one) == 1 for one in numbers)
        shards.append(numbers)
    assert shards[0] == shards[1]
    assert {one for (one,) in shards[0]} == {1, 2, 3, 4}


EXIF = capture("2026:11:30 10:00:00", model="X", subsec="25", exposure_s=0.5, bias=-0.7)
WANTED = Capture(1_796_032_800.25, "|X|", 0.5, -0.7)


def tiff(exif: Image.Exif) -> bytes:
    return exif.tobytes()[6:]  # behind "Exif\0\0"


def fuji(exif: Image.Exif) -> bytes:
    inside = jpeg(0, exif=exif)
    return b"FUJIFILMCCD-RAW ".ljust(84, b"\0") + struct.pack(">II", 200, len(inside)) + bytes(108) + inside


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def cr3(exif: Image.Exif) -> bytes:
    from PIL import ExifTags
    from PIL import Image as PillowImage

    base, inner = PillowImage.Exif(), PillowImage.Exif()
    base[ExifTags.Base.Model] = exif[ExifTags.Base.Model]
    for tag, value in exif.get_ifd(ExifTags.IFD.Exif).items():
        inner[tag] = value
    boxes = box(b"CMT1", tiff(base)) + box(b"CMT2", tiff(inner))
    return box(b"ftyp", b"crx " + bytes(4) + b"crx isom") + box(b"moov", box(b"uuid", bytes(16) + boxes))


FILES = {
    "jpeg": lambda exif: jpeg(0, exif=exif),
    "tiff like nef": tiff,
    "olympus": lambda exif: b"IIRO" + tiff(exif)[4:],
    "panasonic": lambda exif: b"IIU\0" + tiff(exif)[4:],
    "fuji": fuji,
    "canon": cr3,
}


@pytest.mark.parametrize("kind", FILES)
def test_capture_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    data = FILES[kind](EXIF)
    if kind in {"olympus", "panasonic"} and tiff(EXIF)[:2] == b"MM":
        data = b"MMOR" + tiff(EXIF)[4:]
    path.write_bytes(data)
    read = read_capture(str(path))
    assert read.camera == WANTED.camera
    assert read.taken_at == pytest.approx(WANTED.taken_at)
    assert (read.exposure_s, read.exposure_ev) == pytest.approx((0.5, -0.7), abs=1e-6)


def test_heic_capture_is_read(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    from conftest import drawn_photo

    file = io.BytesIO()
    pillow_heif.from_pillow(drawn_photo()).save(file, exif=EXIF.tobytes())
    path = tmp_path / "a.heic"
    path.write_bytes(file.getvalue())
    assert read_capture(str(path)).taken_at == pytest.approx(WANTED.taken_at)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        b"II*\0" + bytes(100),
        b"FUJIFILMCCD-RAW " + bytes(100),
        fuji(EXIF)[:150],
        cr3(EXIF)[:90],
        jpeg(0, exif=capture("0000:00:00 00:00:00", model="", exposure_s=0.0)),
    ],
)
def test_metadata_that_say_nothing(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    found = read_capture(str(path))
    assert (found.taken_at, found.exposure_s) == (None, None)
