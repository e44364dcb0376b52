"""Which file is a photo's sidecar, for each program and for whatever stands in the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aesedge.errors import XmpError
from aesedge.xmp.sidecar import Folder, sidecars_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("photo", "others", "program", "target"),
    [
        # auto: what is there, else what most programs read
        ("a.CR3", "", "auto", "a.xmp"),
        ("a.CR3", "a.JPG", "auto", "a.xmp"),
        ("a.JPG", "a.CR3", "auto", "a.JPG.xmp"),
        ("a.JPG", "a.CR3 a.xmp", "auto", "a.JPG.xmp"),
        ("a.JPG", "", "auto", "a.JPG.xmp"),
        ("a.jpg", "a.XMP", "auto", "a.XMP"),
        ("a.CR3", "a.xmp a.CR3.xmp", "auto", "a.CR3.xmp a.xmp"),
        ("a.CR3", "b.CR3 b.CR3.xmp", "auto", "a.CR3.xmp"),
        ("a.CR3", "b.JPG b.JPG.xmp", "auto", "a.xmp"),
        ("a.CR3", "a.DNG", "auto", "a.CR3.xmp"),
        ("a.JPG", "a.jpg a.jpg.xmp", "auto", "a.JPG.xmp"),
        ("a.TIF", "a.PNG", "auto", "a.TIF.xmp"),
        ("a.heic", "", "auto", "a.heic.xmp"),
        # darktable and digiKam: with the suffix, whatever else is there
        ("a.CR3", "a.xmp", "darktable", "a.CR3.xmp"),
        ("a.CR3", "a.cr3.XMP", "darktable", "a.cr3.XMP"),
        ("a.JPG", "", "digikam", "a.JPG.xmp"),
        # Lightroom: without it, of RAW files alone
        ("a.CR3", "", "lightroom", "a.xmp"),
        ("a.CR3", "a.CR3.xmp a.JPG", "lightroom", "a.xmp"),
        ("a.DNG", "", "lightroom", "a.xmp"),
        ("a.JPG", "a.xmp", "lightroom", "! reads no sidecar of a JPG file; --embed"),
        ("a.TIF", "", "lightroom", "! reads no sidecar of a TIF file"),
        # Capture One: without it, of every file
        ("a.JPG", "", "captureone", "a.xmp"),
        ("a.JPG", "a.CR3", "captureone", "! would be the sidecar of a.cr3 too"),
        ("a.JPG", "a.xmp a.CR3", "captureone", "! a.xmp belongs to another photo"),
        ("a.CR3", "a.JPG", "captureone", "a.xmp"),
        ("a.JPG", "a.TIF", "captureone", "! would be the sidecar of a.tif too"),
        ("a.CR3", "a.DNG", "captureone", "! would be the sidecar of a.dng too"),
    ],
)
def test_target(tmp_path: Path, photo: str, others: str, program: str, target: str) -> None:
    for name in [photo, *others.split()]:
        (tmp_path / name).touch()
    found = sidecars_of(tmp_path / photo, program, Folder(tmp_path), lambda _: None)
    if target.startswith("!"):
        assert found.target == ()
        assert target.removeprefix("! ") in found.refusal
    else:
        assert [path.name for path in found.target] == target.split()


@pytest.mark.parametrize(("photo", "target"), [("a.CR3", "a.xmp"), ("a.DNG", "a.DNG.xmp")])
def test_a_sidecar_says_whose_it_is(tmp_path: Path, photo: str, target: str) -> None:
    for name in ("a.CR3", "a.DNG", "a.xmp"):
        (tmp_path / name).touch()
    found = sidecars_of(tmp_path / photo, "auto", Folder(tmp_path), lambda _: "CR3")
    assert [path.name for path in found.target] == [target]
    with pytest.raises(XmpError, match=r"a\.xmp: may belong to a\.cr3 and a\.dng"):
        sidecars_of(tmp_path / photo, "auto", Folder(tmp_path), lambda _: None)
