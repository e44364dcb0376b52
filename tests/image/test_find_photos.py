"""Which files of a folder count as photos."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from conftest import drawn_photo
from PIL import Image

from aesedge.image import read_image
from aesedge.image.find_photos import PHOTO_SUFFIXES, RAW_SUFFIXES, photos_in
from aesedge.image.format import find_decoder

# What Pillow reads and no camera or photo program writes: icons, documents, drawings, video, scientific data.
NO_PHOTOS = {
    *(".blp", ".bufr", ".bw", ".cur", ".dcx", ".dds", ".emf", ".eps", ".fit", ".fits", ".flc", ".fli", ".ftc", ".ftu"),
    *(".gbr", ".grib", ".h5", ".hdf", ".icb", ".icns", ".ico", ".iim", ".im", ".mpeg", ".mpg", ".msp", ".pcd", ".pcx"),
    *(".pfm", ".ps", ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".vda", ".vst", ".wmf", ".xbm", ".xpm"),
}


@pytest.mark.parametrize(
    "folder",
    [
        *(
            "@eaDir/a.jpg",
            "@EADIR",
            "@tmp",
            "#recycle",
            "#Recycle",
            "#snapshot",
            "@Recycle",
            "@Recently-Snapshot",
            ".@__thumb",
        ),
        *("$RECYCLE.BIN/S-1-5", "RECYCLER", "System Volume Information", "FOUND.000", "found.012"),
        *("lost+found", ".Trash-1000/files", ".Trashes/501", ".dtrash/files", ".thumbnails", ".stversions", ".zfs"),
        *("__MACOSX", "Temporary Items", "Network Trash Folder", ".dropbox.cache", ".picasaoriginals"),
        *("Lightroom Catalog Previews.lrdata", "Lightroom Catalog Smart Previews.lrdata/a", "Catalog.lrcat-data"),
        *("Photos Library.photoslibrary/originals/0", "iPhoto Library.photolibrary", "Aperture.aplibrary"),
        *("CaptureOne/Cache/Proxies", "Catalog.cocatalog/Originals", "PRIVATE/M4ROOT/THMBNL"),
    ],
)
def test_what_systems_and_programs_keep_is_no_photo(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    for path in (tmp_path / folder / "a.jpg", tmp_path / "b.jpg"):
        path.touch()
    assert list(photos_in(tmp_path)) == [tmp_path / "b.jpg"]
    assert list(photos_in(tmp_path / folder)) == [tmp_path / folder / "a.jpg"]  # but where it is named itself


@pytest.mark.parametrize(
    "folder", ["@home", "#vacation", "recycled art", "lost", "originals", "folder.jpg", "$100", "found.jpg"]
)
def test_folders_of_people_are_looked_into(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "a.jpg").touch()
    assert list(photos_in(tmp_path)) == [tmp_path / folder / "a.jpg"]


def test_of_a_photo_library_that_is_named_the_originals_count(tmp_path: Path) -> None:
    library = tmp_path / "Photos Library.photoslibrary"
    for name in ("originals/0/a.heic", "Masters/b.jpg", "resources/derivatives/a.jpg", "Thumbnails/originals/c.jpg"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).touch()
    assert [path.name for path in photos_in(library)] == ["b.jpg", "a.heic"]


def test_what_is_looked_for_is_what_can_be_read() -> None:
    Image.init()
    extensions = Image.registered_extensions()
    by_pillow = {suffix for suffix, format_ in extensions.items() if format_ in Image.OPEN}
    by_others = RAW_SUFFIXES | {".heic", ".heics", ".heif", ".heifs", ".hif"}
    assert by_pillow - NO_PHOTOS <= PHOTO_SUFFIXES
    assert PHOTO_SUFFIXES - by_others <= by_pillow | {".mpo"}  # which Pillow reads as JPEG
    assert {find_decoder(io.BytesIO(b"raw"), f"a{suffix.upper()}") for suffix in RAW_SUFFIXES} == {"raw"}


@pytest.mark.parametrize("suffix", sorted(PHOTO_SUFFIXES))
def test_a_jpeg_is_read_under_every_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix.upper()}"
    drawn_photo().save(path, "JPEG")
    assert list(photos_in(tmp_path)) == [path]
    assert read_image(path).size == (64, 48)


@pytest.mark.parametrize(
    "name", ["a.webm", "a.jpg_original", "a.jpg.xmp", "._a.jpg", "a.mp4", "Thumbs.db", ".a.jpg", "jpg", "a.jpg~"]
)
def test_other_files_are_no_photos(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert list(photos_in(tmp_path)) == []


def test_links_pipes_and_names_of_any_bytes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    names = [os.fsencode(path.name) for path in photos_in(tmp_path)]
    assert names == [b"caf\xe9.jpg", b"loop.jpg", b"pipe.jpg"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").touch()
    scandir = os.scandir

    def fails(path: str) -> object:
        if Path(path).name == "b":
            raise OSError(116, "Stale file handle", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fails)
    told: list[OSError] = []
    assert list(photos_in(tmp_path, told.append)) == [tmp_path / "a" / "x.jpg", tmp_path / "c" / "x.jpg"]
    assert [error.filename for error in told] == [str(tmp_path / "b")]
    with pytest.raises(OSError, match="Stale"):
        list(photos_in(tmp_path))
