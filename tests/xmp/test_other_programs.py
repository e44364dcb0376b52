"""exiftool and exiv2 read what was written, and what was there before, in every kind of file."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from jpegs import exif, jpeg, xmp
from xmp_packets import FULL_PACKET

from aesedge.xmp.editing import Items, edit
from aesedge.xmp.jpeg import embed
from aesedge.xmp.packet import NEW_PACKET
from aesedge.xmp.property_names import (
    ATTRIBUTES,
    CRITIQUE,
    HIERARCHICAL_SUBJECT,
    LABEL,
    PICK,
    PICK_LABEL,
    RATING,
    SCORE,
    SUBJECT,
    TAGS_LIST,
    WROTE_RATING,
)

if TYPE_CHECKING:
    from pathlib import Path

EXIFTOOL, EXIV2 = shutil.which("exiftool"), shutil.which("exiv2")
CHANGES = {
    RATING: "-1",
    LABEL: "Grün",
    PICK: "-1",
    PICK_LABEL: "1",
    WROTE_RATING: "-1",
    SCORE: "1.8",
    ATTRIBUTES: ("composition=7.1", "colour & light=3.0"),
    CRITIQUE: 'It\'s <sharp> & "bright".\nTwo lines.',
    SUBJECT: Items(("score 2",)),
    HIERARCHICAL_SUBJECT: Items(("aesedge|score 2",)),
    TAGS_LIST: Items(("aesedge/score 2",), kind="Seq"),
}
ATTRIBUTE_FORM = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:xap="http://ns.adobe.com/xap/1.0/" xap:Rating="0" xap:Label=\'old\'/>'
    b"</rdf:RDF></x:xmpmeta>"
)
FILES = {
    "new.xmp": edit(NEW_PACKET, CHANGES, "x"),
    "full.xmp": edit(FULL_PACKET, CHANGES, "x"),
    "attributes.xmp": edit(ATTRIBUTE_FORM, CHANGES, "x"),
    "twice.xmp": edit(edit(FULL_PACKET, {RATING: "3", SCORE: "5.0"}, "x"), CHANGES, "x"),
    "bare.jpg": embed(jpeg(), CHANGES, "x"),
    "exif.jpg": embed(jpeg(exif(0)), CHANGES, "x"),
    "full.jpg": embed(jpeg(exif(), xmp(FULL_PACKET)), CHANGES, "x"),
}
FOREIGN = ("Xmp.crs", "Xmp.darktable", "Xmp.odd", "Xmp.xmpMM.DerivedFrom/")
THERE_BEFORE = {
    "Xmp.xmp.CreatorTool": "Adobe Photoshop Lightroom Classic 15.0",
    "Xmp.dc.description": 'lang="x-default" Hello, lang="de-DE" Hallo, lang="fr" Bonjour',
    "Xmp.xmpMM.DerivedFrom": "",
}
HAS_MORE = {name for name in FILES if name.startswith(("full", "twice"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    for name, data in FILES.items():
        (made / name).write_bytes(data)
    return made


@pytest.fixture(scope="module")
def by_exiftool(folder: Path) -> dict[str, dict[str, Any]]:
    if EXIFTOOL is None:
        pytest.skip("exiftool is not installed")
    command = [EXIFTOOL, "-json", "-struct", "-G1", "-n", "-validate", "-warning", "-a", "-all", *FILES]
    done = subprocess.run(command, capture_output=True, cwd=folder, check=True)
    return {found["SourceFile"]: found for found in json.loads(done.stdout)}


@pytest.mark.parametrize("name", FILES)
def test_exiftool_agrees(name: str, by_exiftool: dict[str, dict[str, Any]]) -> None:
    found = by_exiftool[name]
    sea = ["sea", "grün, blau"] if name in HAS_MORE else []
    assert {key: found.get(key) for key in found if key.startswith(("XMP-aesedge", "XMP-digiKam", "XMP-lr"))} == {
        "XMP-aesedge:WroteRating": -1,
        "XMP-aesedge:Score": 1.8,
        "XMP-aesedge:Attributes": ["composition=7.1", "colour & light=3.0"],
        "XMP-aesedge:Critique": CHANGES[CRITIQUE],
        "XMP-digiKam:PickLabel": 1,
        "XMP-digiKam:TagsList": ["aesedge/score 2"],
        "XMP-lr:HierarchicalSubject": ["aesedge|score 2"],
    }
    assert (found["XMP-xmp:Rating"], found["XMP-xmp:Label"], found["XMP-xmpDM:Pick"]) == (-1, "Grün", -1)
    assert found["XMP-dc:Subject"] == [*sea, "score 2"]
    assert "ExifTool:Error" not in found
    if name in HAS_MORE:
        assert found["XMP-dc:Description-de-DE"] == "Hallo"
        assert found["XMP-odd:Data"] == "<not> &markup;"
        masks = found["XMP-crs:MaskGroupBasedCorrections"]
        assert masks[0]["CorrectionMasks"] == [{"MaskValue": 1, "What": "Mask/Brush"}]


@pytest.mark.skipif(EXIV2 is None, reason="exiv2 is not installed")
@pytest.mark.parametrize("name", FILES)
def test_exiv2_agrees(name: str, folder: Path) -> None:
    assert EXIV2 is not None
    done = subprocess.run([EXIV2, "-PXkv", name], capture_output=True, cwd=folder, check=True)
    assert b"rror" not in done.stderr
    lines = [line.partition(" ") for line in done.stdout.decode().splitlines() if line.startswith("Xmp.")]
    found = {key: value.strip() for key, _, value in lines if not key.startswith(FOREIGN)}
    sea = "sea, grün, blau, " if name in HAS_MORE else ""
    assert found == {
        "Xmp.xmp.Rating": "-1",
        "Xmp.xmp.Label": "Grün",
        "Xmp.xmpDM.pick": "-1",
        "Xmp.digiKam.PickLabel": "1",
        "Xmp.digiKam.TagsList": "aesedge/score 2",
        "Xmp.lr.hierarchicalSubject": "aesedge|score 2",
        "Xmp.dc.subject": f"{sea}score 2",
        "Xmp.aesedge.WroteRating": "-1",
        "Xmp.aesedge.Score": "1.8",
        "Xmp.aesedge.Attributes": "composition=7.1, colour & light=3.0",
        "Xmp.aesedge.Critique": 'It\'s <sharp> & "bright".',  # the first line is where its own line ends
        **(THERE_BEFORE if name in HAS_MORE else {}),
    }
