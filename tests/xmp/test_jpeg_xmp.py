"""Packets inside JPEGs: edited in place, by a rewrite, or not at all; and read from every format."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import pytest
from jpegs import XMP_ID, exif, jpeg, segment, xmp
from PIL.JpegImagePlugin import JpegImageFile
from xmp_packets import FULL_PACKET

from aesedge.errors import XmpError
from aesedge.xmp.embedded import read_embedded
from aesedge.xmp.jpeg import embed
from aesedge.xmp.packet import NEW_PACKET, Packet
from aesedge.xmp.property_names import RATING, SCORE

if TYPE_CHECKING:
    from pathlib import Path

OURS = {RATING: "4", SCORE: "6.8"}
MPF = segment(0xE2, b"MPF\0II*\0" + bytes(20))
PADDED = FULL_PACKET.replace(b"<?xpacket end", b" " * 2000 + b"<?xpacket end")
SHORT = NEW_PACKET
EXTENDED = NEW_PACKET.replace(
    b" </rdf:RDF>",
    b'<rdf:Description xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="AB"/></rdf:RDF>',
)


def packet_of(data: bytes, tmp_path: Path) -> Packet:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    return Packet(read_embedded(path).packet or b"", "x.jpg")


def without_packet(data: bytes) -> bytes:
    """A JPEG without its segment of XMP, found by its name alone."""
    if XMP_ID not in data:
        return data
    start = data.index(XMP_ID) - 4
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


@pytest.mark.parametrize(
    ("data", "in_place"),
    [
        (jpeg(), False),
        (jpeg(exif()), False),
        (jpeg(exif(), xmp(SHORT), behind=bytes(100)), False),
        (jpeg(exif(), xmp(PADDED)), True),
        (jpeg(xmp(PADDED + b"\0")), True),
        (jpeg(exif(), xmp(PADDED), MPF, behind=jpeg()), True),
        (jpeg(MPF, xmp(PADDED), behind=b"\0\0\0\x18ftypmp42"), True),
    ],
    ids=["bare", "exif", "no padding", "padding", "nul", "pictures behind", "video behind"],
)
def test_all_but_the_packet_is_the_same(data: bytes, in_place: bool, tmp_path: Path) -> None:
    edited = embed(data, OURS, "x.jpg")
    packet = packet_of(edited, tmp_path)
    assert (packet.text(RATING), packet.text(SCORE)) == ("4", "6.8")
    assert (len(edited) == len(data)) == in_place
    assert embed(edited, OURS, "x.jpg") == edited
    assert without_packet(edited) == without_packet(data)
    with JpegImageFile(io.BytesIO(data)) as old, JpegImageFile(io.BytesIO(edited)) as new:
        assert old.tobytes() == new.tobytes()
        assert old.getexif() == new.getexif()
    more = embed(edited, {SCORE: "10.0", RATING: "5"}, "x.jpg")  # a later edit finds room
    assert len(more) == len(edited) or SHORT in data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (jpeg(exif(), MPF), r"several pictures \(MPF\)"),
        (jpeg(xmp(SHORT), MPF, behind=jpeg()), r"several pictures \(MPF\)"),
        (jpeg(behind=b"\0\0\0\x18ftypmp42"), "more behind its picture"),
        (jpeg(xmp(EXTENDED)), "ExtendedXMP"),
        (jpeg(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60))), "ExtendedXMP"),
        (jpeg(segment(0xEB, b"JP\0\1" + bytes(4) + struct.pack(">I", 20) + b"jumb"), xmp(PADDED)), "C2PA"),
        (jpeg(xmp(PADDED), xmp(SHORT)), "two XMP packets"),
        (jpeg(xmp(b"")), "is empty"),
        (jpeg(xmp(NEW_PACKET[:-9])), "damaged XML"),
        (jpeg(xmp(SHORT.replace(b"RDF xmlns", b"RDF" + b" " * 65_200 + b" xmlns"))), "longer than a JPEG segment"),
        (jpeg()[:-5], "the picture is damaged"),
        (jpeg()[:30], "segments are damaged"),
        (b"\xff\xd8\xff\xd9", "no JPEG with a picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "no JPEG with a picture"),
        (b"", "no JPEG with a picture"),
    ],
)
def test_what_counts_on_its_bytes_is_left_alone(data: bytes, why: str) -> None:
    with pytest.raises(XmpError, match=why) as raised:
        embed(data, OURS, "a.jpg")
    assert str(raised.value).startswith("a.jpg: ")


def tiff(rating: int) -> bytes:
    body = FULL_PACKET
    entries = struct.pack("<HHII", 700, 1, len(body), 40) + struct.pack("<HHIHH", 0x4746, 3, 1, rating, 0)
    return (b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)).ljust(40, b"\0") + body


@pytest.mark.parametrize(
    ("name", "data", "rating"),
    [
        ("a.jpg", jpeg(exif(3), xmp(FULL_PACKET)), 3),
        ("a.jpg", jpeg(xmp(FULL_PACKET), exif(0)), 0),
        ("a.dng", tiff(5), 5),
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(999) + FULL_PACKET + bytes(99), None),
        ("a.cr3", b"\0\0\0\x18ftypcrx " + FULL_PACKET + bytes(2**24), None),
        ("a.raf", b"FUJIFILM" + bytes(2**24) + FULL_PACKET + bytes(99), None),
    ],
)
def test_packets_are_read_from_every_format(name: str, data: bytes, rating: int | None, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    found = read_embedded(path)
    assert found.exif_rating == rating
    assert found.packet is not None
    assert Packet(found.packet, name).items(RATING) == ()
    assert b"MaskGroupBasedCorrections" in found.packet


@pytest.mark.parametrize("data", [jpeg(), b"", b"\xff\xd8\xff\xd9", b"II*\0" + bytes(9), b"<x:xmpmeta", bytes(99)])
def test_a_photo_without_a_packet_has_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_embedded(tmp_path / "a.jpg") == (None, None)


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg()[:30])
    with pytest.raises(XmpError, match=r"a\.jpg: its JPEG segments are damaged"):
        read_embedded(tmp_path / "a.jpg")
    with pytest.raises(XmpError, match=r"b\.jpg: cannot be read: No such file"):
        read_embedded(tmp_path / "b.jpg")
