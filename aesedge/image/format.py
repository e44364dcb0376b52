"""Choose the decoder of a photo from its first bytes and its TIFF directories.

Content decides. A suffix counts only for files whose content could be a RAW: a JPEG that is named ``a.nef`` is a JPEG.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import BinaryIO, Literal

from aesedge.image.find_photos import RAW_SUFFIXES
from aesedge.image.tiff_directory import is_tiff, read_directories

Decoder = Literal["jpeg", "png", "tiff", "heif", "raw", "pillow"]

_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 msf1 miaf".split())
_AVIF_BRANDS = frozenset(b"avif avis".split())
_RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_NEVER_RAW = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"8BPS")

_DNG_VERSION, _PHOTOMETRIC = 50706, 262  # TIFF tags
_SENSOR_DATA = frozenset((32803, 34892))  # photometric interpretations: colour filter array, linear raw


def find_decoder(file: BinaryIO, name: str) -> Decoder:
    """Return who decodes this file; the file's position is changed."""
    file.seek(0)
    head = file.read(256)
    if head[4:8] == b"ftyp":
        return _iso_media_decoder(head)
    if head.startswith(_RAW_MAGIC) or (is_tiff(head) and _holds_sensor_data(file, head)):
        return "raw"
    if PurePath(name).suffix.lower() in RAW_SUFFIXES and not head.startswith(_NEVER_RAW):
        return "raw"
    if is_tiff(head):
        return "tiff"
    return "jpeg" if head.startswith(b"\xff\xd8\xff") else "png" if head.startswith(b"\x89PNG\r\n\x1a\n") else "pillow"


def _iso_media_decoder(head: bytes) -> Decoder:
    """Tell HEIC, AVIF and Canon's CR3 apart by the brands that their first box lists."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, end, 4))}
    if b"crx " in brands:
        return "raw"
    # AVIF may call itself mif1 first, so a brand of AVIF wins; Pillow decodes AVIF itself.
    return "heif" if brands & _HEIF_BRANDS and not brands & _AVIF_BRANDS else "pillow"


def _holds_sensor_data(file: BinaryIO, head: bytes) -> bool:
    """Return whether a TIFF is a camera RAW, whose first directory is often only a thumbnail."""
    if head[8:10] == b"CR":  # Canon CR2
        return True
    return any(
        _DNG_VERSION in directory or directory.integer(_PHOTOMETRIC) in _SENSOR_DATA
        for directory in read_directories(file, sub_directories=True)
    )
