"""What a person has set is told from what aesedge wrote, whatever another program made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aesedge.xmp.packet import Packet
from aesedge.xmp.person import PersonValues, person_values
from aesedge.xmp.photo_xmp import PhotoXmp
from aesedge.xmp.property_names import OWN
from aesedge.xmp.sidecar import Sidecars

URIS = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "own": OWN,
    "xmpDM": "http://ns.adobe.com/xmp/1.0/DynamicMedia/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "ms": "http://ns.microsoft.com/photo/1.0/",
    "acdsee": "http://ns.acdsee.com/iptc/1.0/",
}


def packet(properties: str) -> Packet:
    """A packet of properties: ``xmp:Rating=4 own:WroteRating=4``."""
    declared = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in URIS.items())
    attributes = "".join(f' {name}="{value}"' for name, value in (p.split("=") for p in properties.split()))
    rdf = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    return Packet(f"<rdf:RDF {rdf}{declared}><rdf:Description{attributes}/></rdf:RDF>".encode(), "x")


def photo(*packets: str, exif: int | None = None, embedded: str | None = None) -> PhotoXmp:
    by_path = {Path(str(i)): packet(properties) for i, properties in enumerate(packets)}
    inside = None if embedded is None else packet(embedded)
    return PhotoXmp(Path("a.jpg"), Sidecars((), ()), by_path, inside, exif)


@pytest.mark.parametrize(
    ("files", "rating"),
    [
        ([photo("")], None),
        ([photo("xmp:Rating=0")], None),
        ([photo("xmp:Rating=3")], "3"),
        ([photo("xmp:Rating=-1")], "-1"),
        ([photo("xmp:Rating=4 own:WroteRating=4")], None),
        ([photo("xmp:Rating=4.0 own:WroteRating=4")], None),
        ([photo("xmp:Rating=3 own:WroteRating=4")], "3"),
        ([photo("xmp:Rating=0 own:WroteRating=4")], "0"),  # taken away
        ([photo("own:WroteRating=4")], ""),
        ([photo("xmp:Rating=0 own:WroteRating=0")], None),
        ([photo("xmp:Rating=4 own:WroteRating=4", "xmp:Rating=2")], "2"),
        ([photo("xmp:Rating=4 own:WroteRating=4", embedded="xmp:Rating=4")], None),  # copied by a program
        ([photo("xmp:Rating=4 own:WroteRating=4"), photo("xmp:Rating=5")], "5"),  # the RAW's JPEG
        ([photo("", embedded="xmp:Rating=2")], "2"),
        ([photo("", exif=4)], "4"),
        ([photo("", exif=0)], None),
        ([photo("xmp:Rating=4 own:WroteRating=4", exif=4)], None),
        ([photo("xmp:Rating=4 own:WroteRating=4", exif=2)], "2"),
        ([photo("xmp:Rating=4 own:WroteRating=4 ms:Rating=75 acdsee:rating=4")], None),  # as digiKam writes it
        ([photo("ms:Rating=75")], "4"),
        ([photo("acdsee:rating=2")], "2"),
        ([photo("xmp:Rating=five")], "five"),
    ],
)
def test_rating(files: list[PhotoXmp], rating: str | None) -> None:
    assert person_values(files).rating == rating


@pytest.mark.parametrize(
    ("properties", "label", "pick"),
    [
        ("xmp:Label=Red", "Red", None),
        ("xmp:Label=Red own:WroteLabel=Red", None, None),
        ("xmp:Label=Blue own:WroteLabel=Red", "Blue", None),
        ("own:WroteLabel=Red", "", None),
        ("digiKam:ColorLabel=3", "3", None),
        ("digiKam:ColorLabel=0 digiKam:PickLabel=0 xmpDM:pick=0", None, None),
        ("digiKam:ColorLabel=1 xmp:Label=Red own:WroteLabel=Red", None, None),
        ("xmpDM:pick=1", None, "1"),
        ("xmpDM:pick=-1 own:WrotePick=-1", None, None),
        ("digiKam:PickLabel=3", None, "3"),
    ],
)
def test_label_and_flag(properties: str, label: str | None, pick: str | None) -> None:
    found = person_values([photo(properties)])
    assert (found.label, found.pick) == (label, pick)


@pytest.mark.parametrize(
    ("rating", "stars"), [("4", 4), ("-1", 0), ("4.0", 4), ("", None), (None, None), ("five", None)]
)
def test_stars(rating: str | None, stars: int | None) -> None:
    assert PersonValues(rating=rating).stars == stars
