"""Which decoder a photo needs, told from its first bytes and its TIFF directories; decodes nothing itself.

Content decides. A suffix counts only for files whose content could be a RAW: a JPEG that is named ``a.nef`` is a JPEG.
"""

from __future__ import annotations

import re
import struct
from pathlib import PurePath
from typing import BinaryIO, Literal

Decoder = Literal["pillow", "heif", "raw"]

_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 msf1 miaf".split())
_AVIF_BRANDS = frozenset(b"avif avis".split())
_RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_RAW_SUFFIX = re.compile(
    r"\.(3fr|arw|cr[23w]|dcr|dng|erf|iiq|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw[2l]|sr[2fw]|x3f)", re.IGNORECASE
)
_NEVER_RAW = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"8BPS")

_DNG_VERSION, _PHOTOMETRIC, _SUB_IFDS = 50706, 262, 330  # TIFF tags
_SENSOR_DATA = frozenset((32803, 34892))  # photometric interpretations: colour filter array, linear raw
_MAX_IFDS, _MAX_ENTRIES, _MAX_SUB_IFDS = 16, 1000, 8  # a real RAW has far fewer; a hostile file ends here


def find_decoder(file: BinaryIO, name: str) -> Decoder:
    """Return who decodes this file; the file's position is changed."""
    file.seek(0)
    head = file.read(256)
    if head[4:8] == b"ftyp":
        return _iso_media_decoder(head)
    if head.startswith(_RAW_MAGIC) or (head[:4] in {b"II*\0", b"MM\0*"} and _holds_sensor_data(file, head)):
        return "raw"
    named_raw = _RAW_SUFFIX.fullmatch(PurePath(name).suffix)
    return "raw" if named_raw and not head.startswith(_NEVER_RAW) else "pillow"


def _iso_media_decoder(head: bytes) -> Decoder:
    """Tell HEIC, AVIF and Canon's CR3 apart by the brands that their first box lists."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, end, 4))}
    if b"crx " in brands:
        return "raw"
    # AVIF may call itself mif1 first, so a brand of AVIF wins; Pillow decodes AVIF itself.
    return "heif" if brands & _HEIF_BRANDS and not brands & _AVIF_BRANDS else "pillow"


def _holds_sensor_data(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a TIFF is a camera RAW, whose first directory is often only a thumbnail that Pillow would show."""
    if head[8:10] == b"CR":  # Canon CR2
        return True
    order = "<" if head[:2] == b"II" else ">"
    pending = [int.from_bytes(head[4:8], "little" if order == "<" else "big")]
    seen: set[int] = set()
    while pending and len(seen) < _MAX_IFDS:
        offset = pending.pop()
        if offset in seen or offset == 0:
            continue
        seen.add(offset)
        try:
            tags, following = _read_directory(file, offset, order)
        except struct.error:  # the file ends inside the directory
            continue
        if _DNG_VERSION in tags or _SENSOR_DATA & set(tags.get(_PHOTOMETRIC, ())):
            return True
        pending += [*tags.get(_SUB_IFDS, ()), following]
    return False


def _read_directory(file: BinaryIO, offset: int, order: str) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the values of the tags that matter here, and the offset of the next directory (0 for none)."""
    file.seek(offset)
    (n_entries,) = struct.unpack(order + "H", file.read(2))
    if n_entries > _MAX_ENTRIES:
        raise struct.error("not a directory")
    data = file.read(12 * n_entries)
    (following,) = struct.unpack(order + "I", file.read(4))
    tags: dict[int, tuple[int, ...]] = {}
    for tag, kind, count, value in struct.iter_unpack(order + "HHI4s", data):
        if tag == _PHOTOMETRIC and kind == 3:  # SHORT
            tags[tag] = struct.unpack(order + "H", value[:2])
        elif tag == _DNG_VERSION:
            tags[tag] = ()
        elif tag == _SUB_IFDS and kind in (4, 13) and count:  # LONG, IFD
            tags[tag] = _offsets(file, value, min(count, _MAX_SUB_IFDS), order)
    return tags, following


def _offsets(file: BinaryIO, value: bytes, count: int, order: str) -> tuple[int, ...]:
    """Read directory offsets: a single one stands in the entry itself, several stand where it points."""
    if count > 1:
        file.seek(struct.unpack(order + "I", value)[0])
        value = file.read(4 * count)
    return struct.unpack(f"{order}{count}I", value)
