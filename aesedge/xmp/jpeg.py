"""Edit the XMP packet inside a JPEG, in place or by a rewrite that moves nothing that is counted from elsewhere."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from aesedge.errors import XmpError
from aesedge.image.jpeg_scan import scan_jpeg
from aesedge.xmp.editing import edit
from aesedge.xmp.packet import NEW_PACKET, Packet
from aesedge.xmp.property_names import HAS_EXTENDED_XMP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aesedge.xmp.editing import Change
    from aesedge.xmp.property_names import Name

XMP_ID, EXIF_ID = b"http://ns.adobe.com/xap/1.0/\0", b"Exif\0\0"
_EXTENDED_ID = b"http://ns.adobe.com/xmp/extension/\0"
_SOI, _SOS, _EOI, _APP0, _APP1, _APP2, _APP11 = 0xD8, 0xDA, 0xD9, 0xE0, 0xE1, 0xE2, 0xEB
_MOST_BYTES = 65_502
"""Of a packet: what its segment has room for."""
_PACKET_END = b"<?xpacket end="
_PADDING = (b" " * 99 + b"\n") * 20
"""White space in which later edits find room without moving anything; the specification asks for 2 to 4 KB."""
_NEW_PACKET = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n' + NEW_PACKET + _PADDING + b'<?xpacket end="w"?>'
)


class Segment(NamedTuple):
    """A marker segment before the compressed data."""

    marker: int
    start: int
    """Where its 0xFF stands."""
    head: bytes
    """The first bytes of its content: as many as tell what it is."""
    end: int


def segments(file: BinaryIO) -> Iterator[Segment]:
    """Yield a JPEG's segments up to its compressed data; nothing of what is no JPEG.

    Raises:
        XmpError: the file ends, or has no marker, where a segment must begin.
    """
    if file.read(2) != b"\xff\xd8":
        return
    start = 2
    while True:
        file.seek(start)
        head = file.read(4)
        if head[:2] == b"\xff\xff":  # filler before a marker
            start += 1
            continue
        if head[:1] == b"\xff" and head[1:2] in {bytes((_SOS,)), bytes((_EOI,))}:
            yield Segment(head[1], start, b"", start)
            return
        length = int.from_bytes(head[2:], "big")
        if len(head) < 4 or head[0] != 0xFF or head[1] in {0, _SOI} or length < 2:
            raise XmpError("its JPEG segments are damaged")
        yield Segment(head[1], start, file.read(min(length - 2, 40)), start + 2 + length)
        start += 2 + length


def embed(data: bytes, changes: Mapping[Name, Change], name: str) -> bytes:
    """Return a JPEG with an edited XMP packet; every byte outside of the packet is the same.

    Args:
        data: the file.
        changes: the properties, see :func:`aesedge.xmp.editing.edit`.
        name: of the file, for messages.

    Raises:
        XmpError: something in the file counts on its bytes as they are, or the packet cannot be edited.
    """
    try:
        found = list(segments(io.BytesIO(data)))
    except XmpError as error:
        raise XmpError(f"{name}: {error}; it is not written into") from None
    _refuse_what_counts(found, name)
    packets = [s for s in found if s.marker == _APP1 and s.head.startswith(XMP_ID)]
    if len(packets) > 1:
        raise XmpError(f"{name}: has two XMP packets; it is not written into")
    at = packets[0] if packets else None
    packet = _NEW_PACKET if at is None else data[at.start + 4 + len(XMP_ID) : at.end]
    zeros = packet[len(packet.rstrip(b"\0")) :]  # that some programs end it with
    packet = packet[: len(packet) - len(zeros)]
    if Packet(packet, name).properties(HAS_EXTENDED_XMP):
        raise XmpError(f"{name}: has ExtendedXMP, which is not edited; it is not written into")
    edited = edit(packet, changes, name)
    if edited == packet:
        return data
    edited = _padded(edited, len(packet))
    content = edited + zeros
    if len(content) > _MOST_BYTES:
        raise XmpError(f"{name}: its XMP would be longer than a JPEG segment; it is not written into")
    if at is None or len(edited) != len(packet):
        _refuse_rewrite(data, found, name)
    segment = bytes((0xFF, _APP1)) + (2 + len(XMP_ID) + len(content)).to_bytes(2, "big") + XMP_ID + content
    if at is not None:
        return data[: at.start] + segment + data[at.end :]
    start = 2
    for s in found:
        if s.marker != _APP0 and not (s.marker == _APP1 and s.head.startswith(EXIF_ID)):
            break
        start = s.end
    return data[:start] + segment + data[start:]


def _refuse_what_counts(found: list[Segment], name: str) -> None:
    if not found or found[-1].marker != _SOS:
        raise XmpError(f"{name}: is no JPEG with a picture; it is not written into")
    for s in found:
        if s.marker == _APP11 and s.head.startswith(b"JP"):
            raise XmpError(f"{name}: is signed or has JUMBF data (C2PA), which a changed byte would break")
        if s.marker == _APP1 and s.head.startswith(_EXTENDED_ID):
            raise XmpError(f"{name}: has ExtendedXMP, which is not edited; it is not written into")


def _refuse_rewrite(data: bytes, found: list[Segment], name: str) -> None:
    """Refuse to change the length where positions are counted from the file's beginning or end."""
    if any(s.marker == _APP2 and s.head.startswith(b"MPF\0") for s in found):
        raise XmpError(f"{name}: has several pictures (MPF), whose sizes and places a longer packet would change")
    end = scan_jpeg(data).end
    if end is None:
        raise XmpError(f"{name}: the picture is damaged; it is not written into")
    if data[end + 2 :].strip(b"\0"):
        raise XmpError(f"{name}: has more behind its picture (a video, a preview), which a longer packet would move")


def _padded(packet: bytes, wanted: int) -> bytes:
    """Return a packet as long as before if its padding can give or take the difference, else with new padding."""
    end = packet.rfind(_PACKET_END)
    if end < 0:
        return packet
    body, tail = packet[:end].rstrip(b" \t\r\n"), packet[end:]
    room = wanted - len(body) - len(tail)
    if room < 1:
        return body + b"\n" + _PADDING + tail
    return body + packet[len(body) : end][-room:].rjust(room) + tail
