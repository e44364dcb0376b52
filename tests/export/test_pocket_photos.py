"""Laws of the photographs: free licences, provenance, and no source photograph in two splits."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy", reason="needs the extra [export]")

from typing import TYPE_CHECKING

from aesedge_export.pocket import photos
from aesedge_export.pocket.rcc import read_rcc

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export


def photo(name: str, package: str = "some-package") -> photos.Photo:
    return photos.Photo(name, name, package, "1", "CC0", "somebody", name)


def textured(seed: int) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((600, 450), Image.Resampling.BICUBIC)


def test_near_duplicates_share_a_split() -> None:
    images, names = [], []
    for seed in range(30):
        picture = textured(seed)
        images += [picture, picture.resize((320, 240)), picture.point([min(255, v + 8) for v in range(256)] * 3)]
        names += [photo(f"{seed}-{kind}", f"package-{kind}") for kind in "abc"]
    found = photos.assign_splits(names, [photos.perceptual_hash(image) for image in images], seed=0)
    for i in range(0, len(found), 3):
        assert len({p.split for p in found[i : i + 3]}) == 1
        assert len({p.group for p in found[i : i + 3]}) == 1
    assert len({p.split for p in found}) > 1


def test_a_duplicate_of_a_held_out_photograph_is_a_test_photograph() -> None:
    names = [photo("z", "gcompris-qt-data"), photo("a", photos.HELD_OUT[0])]
    hashes = [photos.perceptual_hash(textured(1))] * 2
    assert {p.split for p in photos.assign_splits(names, hashes, seed=0)} == {"test"}


def test_splits_depend_on_the_seed_and_the_name_only() -> None:
    names = [photo(f"photo {i}") for i in range(60)]
    hashes = [photos.perceptual_hash(textured(i)) for i in range(60)]
    one, again, other = (photos.assign_splits(names, hashes, seed=s) for s in (0, 0, 1))
    assert one == again
    assert one != other


def test_licence_of_a_file_is_read_from_debian_copyright() -> None:
    text = (
        "Files: *\nCopyright: 2000 All\nLicense: GPL-3+\n\n"
        "Files: src/activities/erase/resource/gorilla.jpg\n       nature/Storm.jpg\n"
        "Copyright: 2010 One\nLicense: CC-BY-SA-3.0\n text\n"
    )
    paragraphs = photos.read_copyright(text)
    assert photos.licence_of("erase/gcompris/src/activities/erase/resource/gorilla.webp", paragraphs) == (
        "CC-BY-SA-3.0",
        "2010 One",
    )
    assert photos.licence_of("usr/share/backgrounds/mate/nature/Storm.jpg", paragraphs)[0] == "CC-BY-SA-3.0"
    assert photos.licence_of("other.jpg", paragraphs)[0] == "GPL-3+"


def test_only_free_licences_pass() -> None:
    free = ("CC0-1.0", "CC-BY-SA-4.0", "CC-BY-2.0", "public-domain", "GPL-3+", "BSD-3-Clause")
    assert all(photos.FREE_LICENCES.match(name) for name in free)
    assert not any(photos.FREE_LICENCES.match(name) for name in ("CC-BY-NC-2.0", "CC-BY-NC-SA-4.0", "", "non-free"))


def test_cut_outs_and_tiny_pictures_are_no_photographs(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (400, 400), (9, 9, 9, 0)).save(path)
    assert photos.decode(path.read_bytes()) is None
    Image.new("RGB", (400, 100)).save(path)
    assert photos.decode(path.read_bytes()) is None
    assert photos.decode(b"no picture") is None


def test_resource_file_is_unpacked(tmp_path: Path) -> None:
    names = b"".join(struct.pack(">HI", len(n), 0) + n.encode("utf-16-be") for n in ("d", "plain", "packed"))
    packed = struct.pack(">I", 5) + zlib.compress(b"world")
    data = b"".join(struct.pack(">I", len(c)) + c for c in (b"hello", packed))
    offsets = (0, 8, 24)  # of the three names: 2 + 4 bytes and two per letter
    tree = struct.pack(">IHIIQ", 0, 2, 1, 1, 0)  # the root: one child, the folder
    tree += struct.pack(">IHIIQ", offsets[0], 2, 2, 2, 0)
    tree += struct.pack(">IHIIQ", offsets[1], 0, 0, 0, 0) + struct.pack(">IHIIQ", offsets[2], 1, 0, 9, 0)
    header = struct.pack(">4s4I", b"qres", 2, 20, 20 + len(tree), 20 + len(tree) + len(data))
    path = tmp_path / "a.rcc"
    path.write_bytes(header + tree + data + names)
    assert dict(read_rcc(path)) == {"d/plain": b"hello", "d/packed": b"world"}
