"""TIFF files written sample by sample, in kinds that no library at hand writes, or that none writes on purpose."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aesedge.image import read_image

if TYPE_CHECKING:
    from collections.abc import Sequence

_LETTERS = {1: "B", 3: "H", 4: "I", 5: "II", 12: "d", 16: "Q"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a picture is stored."""

    bits: int = 8
    photometric: int | None = 1
    compression: int = 1
    order: str = "<"
    planar: bool = False
    tile: tuple[int, int] | None = None
    rows_per_strip: int = 7
    predictor: int = 1
    big: bool = False
    reversed_bits: bool = False
    sample_format: int = 1
    extra: tuple[int, ...] = ()


def packed(rows: np.ndarray, kind: Kind) -> bytes:
    """Return samples [rows, values] as bytes, each row on its own."""
    bits, data = kind.bits, []
    for row in rows:
        if bits in (8, 16, 32, 64):
            letter = {1: "u", 2: "i", 3: "f"}[kind.sample_format]
            data.append(row.astype(f"{kind.order}{letter}{bits // 8}").tobytes())
        elif bits == 24:
            four = row.astype(f"{kind.order}u4").view("u1").reshape(-1, 4)
            data.append((four[:, :3] if kind.order == "<" else four[:, 1:]).tobytes())
        else:
            planes = (row[:, None].astype(np.uint32) >> np.arange(bits - 1, -1, -1)) & 1
            data.append(np.packbits(planes.astype(np.uint8).ravel()).tobytes())
    return b"".join(data)


def compressed(data: bytes, kind: Kind) -> bytes:
    if kind.compression in (8, 32946):
        data = zlib.compress(data)
    elif kind.compression == 32773:  # PackBits, literals only
        pieces = [data[i : i + 128] for i in range(0, len(data), 128)]
        data = b"".join(bytes((len(piece) - 1,)) + piece for piece in pieces)
    elif kind.compression == 5:  # LZW, literals only: the table is cleared before its codes grow
        codes = [256]
        for i, byte in enumerate(data):
            codes += [byte, 256] if i % 200 == 199 else [byte]
        bits = np.array([*codes, 257], np.uint32)[:, None] >> np.arange(8, -1, -1) & 1
        data = np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    if kind.reversed_bits:
        data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return data


def segments(samples: np.ndarray, kind: Kind) -> list[bytes]:
    """Return the strips or tiles of samples [height, width, samples]."""
    height, width, n_samples = samples.shape
    found = []
    planes = [samples[..., i : i + 1] for i in range(n_samples)] if kind.planar else [samples]
    across, down = kind.tile or (width, kind.rows_per_strip)
    for plane in planes:
        for y in range(0, height, down):
            for x in range(0, width, across):
                part = plane[y : y + down, x : x + across]
                if kind.tile:
                    room = ((0, down - part.shape[0]), (0, across - part.shape[1]), (0, 0))
                    part = np.pad(part, room, mode="edge")
                if kind.predictor == 2:
                    part = np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1)
                found.append(compressed(packed(part.reshape(part.shape[0], -1), kind), kind))
    return found


def directory(values: dict[int, tuple[int, Sequence[Any]]], offset: int, order: str, *, big: bool) -> bytes:
    """Return a directory that stands at ``offset``, with no other behind it."""
    count, entry, room = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    head = struct.pack(order + count, len(values))
    at = offset + len(head) + len(values) * (struct.calcsize(order + entry) + room) + room
    table, body = b"", b""
    for tag, (type_, items) in sorted(values.items()):
        data = items if isinstance(items, bytes) else b"".join(_value(type_, item, order) for item in items)
        table += struct.pack(order + entry, tag, type_, len(items))
        if len(data) > room:
            table += struct.pack(order + ("Q" if big else "I"), at + len(body))
            body += data + bytes(len(data) % 2)
        else:
            table += data.ljust(room, b"\0")
    return head + table + bytes(room) + body


def _value(type_: int, item: Any, order: str) -> bytes:
    letters = _LETTERS[type_]
    return struct.pack(order + letters, *((item, 10000) if len(letters) == 2 else (item,)))


def tiff(
    samples: np.ndarray,
    kind: Kind,
    *,
    tags: dict[int, tuple[int, Sequence[Any]]] | None = None,
    without: Sequence[int] = (),
    data: list[bytes] | None = None,
) -> bytes:
    """Return a TIFF file.

    Args:
        samples: whole numbers or floats [height, width, samples].
        kind: how they are stored.
        tags: more tags, or others in place of the usual ones: type and values.
        without: tags that are left out.
        data: the strips or tiles, if they are not to be made from the samples.
    """
    height, width, n_samples = samples.shape
    parts = segments(samples, kind) if data is None else data
    order, start = kind.order, 16
    offsets = [start + sum(map(len, parts[:i])) for i in range(len(parts))]
    wide = 16 if kind.big else 4
    values: dict[int, tuple[int, Sequence[Any]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [kind.bits] * n_samples),
        259: (3, [kind.compression]),
        266: (3, [2 if kind.reversed_bits else 1]),
        277: (3, [n_samples]),
        284: (3, [2 if kind.planar else 1]),
        317: (3, [kind.predictor]),
        339: (3, [kind.sample_format] * n_samples),
    }
    if kind.photometric is not None:
        values[262] = (3, [kind.photometric])
    if kind.extra:
        values[338] = (3, kind.extra)
    counts = [len(part) for part in parts]
    if kind.tile:
        values |= {322: (4, [kind.tile[0]]), 323: (4, [kind.tile[1]]), 324: (wide, offsets), 325: (4, counts)}
    else:
        values |= {278: (4, [kind.rows_per_strip]), 273: (wide, offsets), 279: (4, counts)}
    values |= tags or {}
    for tag in without:
        values.pop(tag, None)
    at = start + sum(counts)
    at += at % 2
    mark = {"<": b"II", ">": b"MM"}[order]
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if kind.big else struct.pack(order + "HI", 42, at))
    body = (head.ljust(start, b"\0") + b"".join(parts)).ljust(at, b"\0")
    return body + directory(values, at, order, big=kind.big)


WIDTH, HEIGHT = 37, 29  # neither is a multiple of a tile, a strip or a byte of bits

Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
LIGHT = np.stack([X / (WIDTH - 1), Y / (HEIGHT - 1), (X + Y) / (WIDTH + HEIGHT - 2), (X * 7 % WIDTH) / WIDTH], axis=-1)
"""Four channels of 0..1, each another gradient."""


def grown(bits: int, n_samples: int) -> np.ndarray:
    """Return samples of so many bits."""
    return np.rint(LIGHT[..., :n_samples] * (2**bits - 1)).astype(np.uint64).astype(np.uint32)


def levels(samples: np.ndarray, bits: int) -> np.ndarray:
    """Return what samples are with 8 bits: scaled up, or without their low bits."""
    samples = samples.astype(np.int64)
    return samples >> (bits - 8) if bits >= 8 else np.rint(samples * 255 / (2**bits - 1)).astype(np.int64)


def read(data: bytes) -> np.ndarray:
    return np.asarray(read_image(data)).astype(int)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.reshape(HEIGHT, WIDTH, 1), 3, axis=2)


def second_decoder(data: bytes, planar: bool) -> np.ndarray:
    """Return the samples that tifffile finds in a file."""
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        compression = opened.pages[0].compression
        if compression not in (1, 8, 32946):
            pytest.importorskip("imagecodecs")
        found = opened.pages[0].asarray()
    if found.ndim == 2:
        return np.asarray(found[..., np.newaxis])
    return np.moveaxis(found, 0, -1) if planar else np.asarray(found)
