"""Parse the segments of a JPEG: how it is coded, and whether its compressed data are complete.

Decoders conceal damage: where data are missing or invalid, libjpeg fills grey without an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_SOI, _EOI, _SOS, _DHT, _DRI, _DNL, _RST0 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0xDC, 0xD0
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, _SOI, *range(0xD0, 0xD8)))
_BETWEEN_SCANS = frozenset((_DHT, 0xCC, 0xDB, _DNL, _DRI, 0xFE, *range(0xE0, 0xF0)))
_KEPT_BYTES = 1024
"""Of freed arrays smaller than this, numpy keeps seven of each size; another number of markers in each photo is another
size, 1 to 2 KB a photo for hundreds of photos."""
_ZEROS = bytes(64)
"""Entropy coding does not produce this many zero bytes, except where zero bits mean "no change"."""


@dataclass
class Component:
    """One colour channel of the frame."""

    id: int
    across: int
    down: int


@dataclass
class JpegScan:
    """The result of parsing a JPEG from its start to its end marker."""

    frame: int = 0
    """The marker of the frame: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, others are rare."""
    precision: int = 8
    width: int = 0
    height: int = 0
    components: list[Component] = field(default_factory=list)
    has_adobe: bool = False
    n_scans: int = 0
    scanned: set[int] = field(default_factory=set)
    """Components that have been in a scan."""
    end: int | None = None
    """Where the end marker stands; None without one."""
    data_start: int = 0
    """Where the compressed data of the last scan begin."""
    n_unexpected: int = 0
    """Markers that cannot stand where they do."""
    n_restarts_wrong: int = 0
    """Restart markers that are missing, too many or out of order."""
    restarts_missing: float = 0.0
    """Which part of the last scan's restart markers is missing."""
    has_hole: bool = False
    """Whether a part of the compressed data was overwritten with zeros."""
    restart_interval: int = 0
    known: dict[tuple[int, int], int] = field(default_factory=dict)
    """Of a progressive JPEG: component and coefficient to the bits that are missing still."""
    zero_codes: dict[int, int] = field(default_factory=dict)
    """Huffman table to what its code of all zeros means."""

    @property
    def is_sequential(self) -> bool:
        """Whether the frame is baseline or extended sequential, Huffman coded."""
        return self.frame in (0xC0, 0xC1)

    @property
    def is_complete(self) -> bool:
        """Whether every coefficient of every component has all its bits, as far as the scans' headers tell."""
        if self.frame != 0xC2:
            return bool(self.scanned) and self.scanned >= {c.id for c in self.components}
        wanted = ((c.id, k) for c in self.components for k in range(64))
        return all(self.known.get(key) == 0 for key in wanted)

    def damage(self) -> list[str]:
        """Return what is damaged, in plain sentences."""
        found = []
        if self.n_restarts_wrong:
            found.append(
                f"the file is damaged: {self.n_restarts_wrong} restart markers are missing or wrong, so parts of the "
                "picture are missing or displaced"
            )
        if self.n_unexpected or self.has_hole:
            found.append("the file is damaged: some of its compressed data were overwritten; parts may look wrong")
        if self.frame == 0xC2 and self.n_scans and not self.is_complete:
            found.append("the file is damaged: the last scans of the picture are missing; it is coarser than it was")
        return found


def scan_jpeg(data: bytes) -> JpegScan:
    """Parse the segments of a JPEG; never raises, whatever the data."""
    found = JpegScan()
    markers = _Markers(data)
    at = 2
    while True:
        at = markers.next_from(at)
        if at < 0:
            return found
        code = data[at + 1]
        if code == _EOI:
            found.end = at
            return found
        if code in _WITHOUT_LENGTH:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
        if code == _SOS and found.components:
            at = _read_scan(found, markers, data, at, body)
        else:
            _read_segment(found, code, body)


class _Markers:
    """All places in the file where 0xFF is followed by what may be a marker, and the codes there."""

    def __init__(self, data: bytes) -> None:
        array = np.frombuffer(data, np.uint8)
        at = np.flatnonzero(array[:-1] == 0xFF)
        n = len(at)
        codes = np.zeros(max(n, _KEPT_BYTES), np.uint8)
        np.take(array, at + 1, out=codes[:n], mode="clip")
        may_be = (codes != 0) & (codes != 0xFF)
        self.at: npt.NDArray[np.intp] = at[may_be[:n]]
        self.codes: npt.NDArray[np.uint8] = codes[may_be]

    def index_from(self, at: int) -> int:
        return int(np.searchsorted(self.at, at))

    def next_from(self, at: int) -> int:
        """Return the place of the next marker, -1 if there is none."""
        i = self.index_from(at)
        return int(self.at[i]) if i < len(self.at) else -1


def _read_segment(found: JpegScan, code: int, body: bytes) -> None:
    if code in _FRAMES and not found.components and len(body) >= 6:
        found.frame, found.precision = code, body[0]
        found.height, found.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        parts = body[6 : 6 + 3 * body[5]]
        found.components = [
            Component(parts[i], parts[i + 1] >> 4, parts[i + 1] & 15) for i in range(0, len(parts) - 2, 3)
        ]
    elif code == _DRI and len(body) >= 2:
        found.restart_interval = int.from_bytes(body[:2], "big")
    elif code == 0xEE and body.startswith(b"Adobe"):
        found.has_adobe = True
    elif code == _DHT:
        while len(body) > 17:
            n_codes = sum(body[1:17])
            found.zero_codes[body[0]] = body[17]
            body = body[17 + n_codes :]


def _read_scan(found: JpegScan, markers: _Markers, data: bytes, start: int, header: bytes) -> int:
    """Read a scan's header and look through its compressed data; return where they end."""
    found.n_scans += 1
    found.data_start = start
    n_components = header[0] if header else 0
    ids = [header[1 + 2 * i] for i in range(n_components) if 2 + 2 * i < len(header)]
    found.scanned |= set(ids)
    spectrum = header[1 + 2 * n_components : 4 + 2 * n_components]
    if len(spectrum) == 3:
        for id_ in ids:
            found.known |= {(id_, k): spectrum[2] & 15 for k in range(spectrum[0], min(spectrum[1], 63) + 1)}
    i, restarts = markers.index_from(start), 0
    wrong = 0
    while i < len(markers.at):
        end = i + _n_restarts_at(markers.codes, i)
        wrong += _n_out_of_order(markers.codes[i:end], restarts)
        restarts += end - i
        i = end
        if i == len(markers.at) or _ends_scan(found, data, int(markers.at[i])):
            break
        found.n_unexpected += 1
        i += 1
    stop = int(markers.at[i]) if i < len(markers.at) else len(data)
    _count_restarts(found, ids, restarts, wrong)
    if not _may_be_zeros(found, header, spectrum) and data.find(_ZEROS, start, stop) >= 0:
        found.has_hole = True
    return stop


def _n_restarts_at(codes: npt.NDArray[np.uint8], i: int) -> int:
    """Return how many of the markers from here are restart markers, one after the other."""
    n = 64
    while True:
        others = np.flatnonzero((codes[i : i + n] & 0xF8) != _RST0)
        if len(others):
            return int(others[0])
        if i + n >= len(codes):
            return len(codes) - i
        n *= 16


def _n_out_of_order(codes: npt.NDArray[np.uint8], n_before: int) -> int:
    return int(np.count_nonzero((codes & 7) != ((np.arange(len(codes)) + n_before) & 7)))


def _ends_scan(found: JpegScan, data: bytes, at: int) -> bool:
    """Return whether a marker can end a scan; in damaged data any byte may follow 0xFF."""
    code = data[at + 1]
    if code == _EOI:
        return True
    if code != _SOS and code not in _BETWEEN_SCANS:
        return False
    if code in (_SOS, _DHT) and found.is_sequential and found.n_scans >= len(found.components):
        return False
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    if length < 2:
        return False
    return code == _SOS or data[at + 2 + length : at + 3 + length] == b"\xff"


def _count_restarts(found: JpegScan, ids: list[int], n_restarts: int, n_out_of_order: int) -> None:
    interval, n_mcus = found.restart_interval, _n_mcus(found, ids)
    if not interval or not n_mcus:
        found.n_unexpected += n_restarts
        return
    wanted = -(-n_mcus // interval) - 1
    missing = wanted - n_restarts if n_restarts not in (wanted, wanted + 1) else 0  # some write one more at the end
    found.restarts_missing = max(missing, 0) / (wanted + 1)
    found.n_restarts_wrong += abs(missing) or (1 if n_out_of_order else 0)


def _n_mcus(found: JpegScan, ids: list[int]) -> int:
    """Return how many minimum coded units a scan of these components has."""
    across = max((c.across for c in found.components), default=1) or 1
    down = max((c.down for c in found.components), default=1) or 1
    if len(ids) != 1:
        return -(-found.width // (8 * across)) * -(-found.height // (8 * down))
    (component,) = [c for c in found.components if c.id == ids[0]][:1] or [Component(0, across, down)]
    width, height = -(-found.width * component.across // across), -(-found.height * component.down // down)
    return -(-width // 8) * -(-height // 8)


def _may_be_zeros(found: JpegScan, header: bytes, spectrum: bytes) -> bool:
    """Return whether many zero bits in a row can come from the coding: where they say that nothing changes."""
    if len(spectrum) < 3 or found.frame not in (0xC0, 0xC1, 0xC2) or spectrum[2] >> 4:  # arithmetic, or refinements
        return True
    selectors = header[2 : 2 + 2 * header[0] : 2]
    has_dc, has_ac = found.is_sequential or spectrum[0] == 0, found.is_sequential or spectrum[0] > 0
    dc = [found.zero_codes.get(selector >> 4, 0) for selector in selectors] if has_dc else []
    ac = [found.zero_codes.get(0x10 | selector & 15, 0) & 15 for selector in selectors] if has_ac else []
    return not any(dc) and not any(ac)
