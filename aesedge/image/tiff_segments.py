"""Read the samples of a TIFF band by band: decompress strips and tiles, undo predictors."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from aesedge.image.tiff_layout import DEFLATE, FAX, JPEG, LZMA, NONE, OLD_DEFLATE, OLD_JPEG, WEBP, YCBCR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from aesedge.image.tiff_layout import TiffLayout

    Bytes = npt.NDArray[np.uint8]
    Samples = npt.NDArray[np.generic]

BAND_BYTES = 4 * 2**20
"""Decompressed bytes that are turned into samples at once; a tile or a strip that is not stored row by row may be
larger."""

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Segments:
    """Read a TIFF's samples from top to bottom. Missing or damaged segments read as zeros, and are counted.

    Args:
        file: the TIFF.
        layout: how its samples lie in it.
    """

    def __init__(self, file: BinaryIO, layout: TiffLayout) -> None:
        self.file = file
        self.layout = layout
        self.n_lost = 0
        """How many segments were missing or damaged so far."""

    def bands(self) -> Iterator[tuple[int, Samples]]:
        """Yield rows of the picture as samples [rows, width, n_samples], each with the number of its first row."""
        self.n_lost = 0
        yield from self._tile_bands() if self.layout.tile else self._strip_bands()

    def _tile_bands(self) -> Iterator[tuple[int, Samples]]:
        layout = self.layout
        width, height = layout.segment_size
        across, down = layout.segments_across_and_down
        for row in range(down):
            n_rows = min(height, layout.height - row * height)
            planes = []
            for plane in range(layout.n_planes):
                first = (plane * down + row) * across
                tiles = [self._decoded(first + column, height) for column in range(across)]
                samples = [unpack(tile, layout, width, height)[:n_rows] for tile in tiles]
                planes.append(np.concatenate(samples, axis=1)[:, : layout.width])
            yield row * height, np.concatenate(planes, axis=2)

    def _strip_bands(self) -> Iterator[tuple[int, Samples]]:
        layout = self.layout
        rows_per_strip, row_bytes = layout.rows_per_strip, layout.row_bytes
        n_strips = layout.segments_across_and_down[1]
        together = max(1, BAND_BYTES // max(layout.n_stored_rows(rows_per_strip) * row_bytes, 1))
        step = max(1, BAND_BYTES // row_bytes) * layout.subsampling[1]
        for first in range(0, n_strips, together):
            top = first * rows_per_strip
            n_rows = min(together * rows_per_strip, layout.height - top)
            strips = range(first, min(first + together, n_strips))
            readers = [self._rows_of(strips, plane * n_strips) for plane in range(layout.n_planes)]
            for y in range(0, n_rows, step):
                rows = min(step, n_rows - y)
                planes = [unpack(read(layout.n_stored_rows(rows)), layout, layout.width, rows) for read in readers]
                yield top + y, np.concatenate(planes, axis=2)

    def _rows_of(self, strips: range, offset: int) -> Callable[[int], Bytes]:
        """Return a function that reads the next n rows of consecutive strips."""
        layout = self.layout
        if len(strips) == 1 and layout.compression == NONE:
            return _Stored(self, offset + strips[0]).read
        if len(strips) == 1 and layout.compression in (DEFLATE, OLD_DEFLATE, LZMA):
            return _Stream(self, offset + strips[0]).read
        parts = [self._decoded(offset + i, self._rows_in(i)) for i in strips]
        return _Array(parts[0] if len(parts) == 1 else np.concatenate(parts)).read

    def _rows_in(self, strip: int) -> int:
        return min(self.layout.rows_per_strip, self.layout.height - strip * self.layout.rows_per_strip)

    def stored(self, index: int) -> bytes:
        """Return a segment as it stands in the file; empty if it is missing, and counted then."""
        layout = self.layout
        offset = layout.offsets[index] if index < len(layout.offsets) else 0
        count = layout.counts[index] if index < len(layout.counts) else 0
        if not count and layout.compression == NONE:  # writers may leave out the number of bytes
            count = layout.n_stored_rows(layout.segment_size[1]) * layout.row_bytes
        data = b""
        if offset and count:
            self.file.seek(offset)
            data = self.file.read(count)
        if not data or (len(data) < count and layout.compression != NONE):
            self.n_lost += 1
            return b""
        return data.translate(_REVERSED) if layout.reversed_bits else data

    def _decoded(self, index: int, n_rows: int) -> Bytes:
        """Return a segment's bytes [rows, row_bytes]."""
        n_stored = self.layout.n_stored_rows(n_rows)
        data = self.stored(index)
        if not data:
            return np.zeros((n_stored, self.layout.row_bytes), np.uint8)
        try:
            decoded = _decompress(data, self.layout, n_rows)
        except (OSError, ValueError, SyntaxError, zlib.error, lzma.LZMAError, EOFError, struct.error):
            self.n_lost += 1
            return np.zeros((n_stored, self.layout.row_bytes), np.uint8)
        return self.filled(decoded, n_stored)

    def filled(self, decoded: Bytes | bytes, n_rows: int) -> Bytes:
        """Return bytes as rows, zeros where they end too soon; which is counted."""
        flat = np.frombuffer(decoded, np.uint8) if isinstance(decoded, bytes) else decoded.reshape(-1)
        n_bytes = n_rows * self.layout.row_bytes
        if flat.size < n_bytes:
            self.n_lost += 1
            flat = np.concatenate([flat, np.zeros(n_bytes - flat.size, np.uint8)])
        return flat[:n_bytes].reshape(n_rows, self.layout.row_bytes)


class _Array:
    """Rows of a strip that is decompressed already."""

    def __init__(self, rows: Bytes) -> None:
        self._rows, self._at = rows, 0

    def read(self, n_rows: int) -> Bytes:
        self._at += n_rows
        return self._rows[self._at - n_rows : self._at]


class _Stream:
    """Rows of a strip that can be decompressed piece by piece: all of it at once may be gigabytes."""

    def __init__(self, segments: Segments, index: int) -> None:
        self._segments = segments
        self._data = segments.stored(index)
        self._is_lost = not self._data
        is_xz = segments.layout.compression == LZMA
        self._decompressor = lzma.LZMADecompressor() if is_xz else zlib.decompressobj()

    def read(self, n_rows: int) -> Bytes:
        n_bytes = n_rows * self._segments.layout.row_bytes
        pieces: list[bytes] = []
        while n_bytes and not self._is_lost and not self._decompressor.eof:
            try:
                piece = self._decompressor.decompress(self._data, n_bytes)
            except (zlib.error, lzma.LZMAError):
                break
            self._data = getattr(self._decompressor, "unconsumed_tail", b"")
            if not piece and not self._data:
                break
            pieces.append(piece)
            n_bytes -= len(piece)
        data = b"".join(pieces)
        if self._is_lost:  # counted already
            return np.zeros((n_rows, self._segments.layout.row_bytes), np.uint8)
        rows = self._segments.filled(data, n_rows)
        self._is_lost = n_bytes > 0
        return rows


class _Stored:
    """Rows of a strip that is not compressed."""

    def __init__(self, segments: Segments, index: int) -> None:
        self._segments = segments
        layout = segments.layout
        self._at = layout.offsets[index] if index < len(layout.offsets) else 0
        self._is_lost = False

    def read(self, n_rows: int) -> Bytes:
        layout, file = self._segments.layout, self._segments.file
        n_bytes = n_rows * layout.row_bytes
        data = b""
        if self._at and not self._is_lost:
            file.seek(self._at)
            data = file.read(n_bytes)
            self._at += n_bytes
        if layout.reversed_bits:
            data = data.translate(_REVERSED)
        if self._is_lost:
            return np.zeros((n_rows, layout.row_bytes), np.uint8)
        self._is_lost = len(data) < n_bytes
        return self._segments.filled(data, n_rows)


def _decompress(data: bytes, layout: TiffLayout, n_rows: int) -> Bytes | bytes:
    """Return a segment's bytes; too few if it is damaged."""
    n_stored = layout.n_stored_rows(n_rows)
    n_bytes = n_stored * layout.row_bytes
    if layout.compression == NONE:
        return data
    if layout.compression in (DEFLATE, OLD_DEFLATE):
        return zlib.decompressobj().decompress(data, n_bytes)
    if layout.compression == LZMA:
        return lzma.LZMADecompressor().decompress(data, n_bytes)
    if layout.compression in (JPEG, OLD_JPEG, WEBP):
        return _picture_in(data, layout, n_rows)
    return _by_libtiff(data, layout, n_rows)


def _by_libtiff(data: bytes, layout: TiffLayout, n_rows: int) -> Bytes:
    """Decompress a segment with Pillow's libtiff, wrapped as a small TIFF of grey bytes, or of bits for fax."""
    is_fax = layout.compression in FAX
    width, rows = layout.segment_size[0] if is_fax else layout.row_bytes, layout.n_stored_rows(n_rows)
    tags = {256: width, 257: rows, 258: 1 if is_fax else 8, 259: layout.compression, 262: 1, 277: 1, 278: rows}
    if is_fax:
        tags |= {292: layout.fax_options[0], 293: layout.fax_options[1]}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags |= {273: start, 279: len(data)}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = struct.pack("<4sIH", b"II*\0", 8, len(tags)) + table + bytes(4)
    with TiffImagePlugin.TiffImageFile(io.BytesIO(head + data), "") as image:
        image.load()
        pixels: Bytes = np.asarray(image)
    return np.packbits(pixels, axis=1) if is_fax else pixels


def _picture_in(data: bytes, layout: TiffLayout, n_rows: int) -> Bytes:
    """Decode a segment that is a JPEG or WebP picture by itself."""
    n_samples = layout.samples_per_segment_pixel
    with Image.open(io.BytesIO(data if layout.compression == WEBP else _whole_jpeg(data, layout))) as image:
        width, height = layout.segment_size[0], n_rows
        if image.width < width or image.height < height:
            raise ValueError(f"a segment of {image.width}x{image.height} instead of {width}x{height}")
        image.load()
        pixels: Bytes = np.asarray(image)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] < n_samples:
        raise ValueError(f"a segment of {pixels.shape[2]} samples a pixel instead of {n_samples}")
    pixels = pixels[:height, :width, :n_samples]
    # Pillow takes four samples for Adobe's CMYK, which is stored inverted; in a TIFF nothing is.
    return 255 - pixels if n_samples == 4 and layout.compression != WEBP else pixels


def _whole_jpeg(data: bytes, layout: TiffLayout) -> bytes:
    """Return a segment as a JPEG file: with the tables of all, and with a marker that says whether it is YCbCr."""
    transform = layout.photometric == YCBCR and layout.samples_per_segment_pixel == 3
    adobe = struct.pack(">HH5sHHHB", 0xFFEE, 14, b"Adobe", 100, 0, 0, int(transform))
    at = 2
    while data[at : at + 2] in {b"\xff\xe0", b"\xff\xee"}:  # what a JFIF or Adobe marker says of colours does not count
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return b"\xff\xd8" + adobe + layout.jpeg_tables[2:-2] + data[at:]


def unpack(rows: Bytes, layout: TiffLayout, width: int, n_rows: int) -> Samples:
    """Return a segment's samples [rows, width, samples], in the machine's byte order."""
    if layout.subsampling != (1, 1):
        return _full_chroma(rows, layout, width, n_rows)
    n_samples = layout.samples_per_segment_pixel
    shape = (rows.shape[0], width, n_samples)
    if layout.predictor == 3:
        return _undo_float_predictor(rows, layout, width).reshape(shape)
    if layout.bits in (8, 16, 32, 64):
        stored = np.dtype(f"{layout.order}{layout.kind}{layout.bits // 8}")
        samples = np.ascontiguousarray(rows).view(stored).reshape(shape)
        samples = samples.astype(stored.newbyteorder("="), copy=False)
        return samples if layout.predictor == 1 else np.cumsum(samples, axis=1, dtype=samples.dtype)
    if layout.bits == 24:
        return _of_three_bytes(rows, layout).reshape(shape)
    return _of_few_bits(rows, layout.bits, width * n_samples).reshape(shape)


def _of_few_bits(rows: Bytes, bits: int, n_values: int) -> Samples:
    """Return values of 1 to 15 bits, the highest bit first; each lies in at most three bytes."""
    first_bit = np.arange(n_values) * bits
    at, shift = first_bit >> 3, 24 - bits - (first_bit & 7)
    padded = np.pad(rows, ((0, 0), (0, 2)))
    window = padded[:, at].astype(np.uint32) << 16
    window |= padded[:, at + 1].astype(np.uint32) << 8
    window |= padded[:, at + 2]
    return ((window >> shift.astype(np.uint32)) & np.uint32(2**bits - 1)).astype(np.uint16)


def _of_three_bytes(rows: Bytes, layout: TiffLayout) -> Samples:
    """Return 24-bit integers as 32 bits, and 24-bit floats (7 bits of exponent) as float32."""
    parts = rows.reshape(rows.shape[0], -1, 3).astype(np.uint32)
    if layout.order == "<":
        parts = parts[..., ::-1]
    values = parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]
    return _float_of_24_bits(values) if layout.kind == "f" else values


def _float_of_24_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    sign, exponent, mantissa = values >> 23, (values >> 16 & 0x7F).astype(np.int32), values & 0xFFFF
    fraction = np.where(exponent == 0, 0, 1) + mantissa / 65536.0
    real = np.ldexp(fraction, np.maximum(exponent, 1) - 63)
    real = np.where(exponent == 0x7F, np.where(mantissa == 0, np.inf, np.nan), real)
    return np.where(sign == 1, -real, real).astype(np.float32)


def _undo_float_predictor(rows: Bytes, layout: TiffLayout, width: int) -> Samples:
    """Undo predictor 3: differences of bytes, which lie sorted from the highest of all values to the lowest."""
    n_samples, n_bytes = layout.samples_per_segment_pixel, layout.bits // 8
    n_rows = rows.shape[0]
    summed = np.cumsum(rows.reshape(n_rows, -1, n_samples), axis=1, dtype=np.uint8)
    together = summed.reshape(n_rows, n_bytes, width * n_samples).transpose(0, 2, 1)
    if layout.bits == 24:
        parts = together.astype(np.uint32)
        return _float_of_24_bits(parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2])
    values = np.ascontiguousarray(together).view(f">f{n_bytes}")
    return values.astype(f"f{n_bytes}")


def _full_chroma(rows: Bytes, layout: TiffLayout, width: int, n_rows: int) -> Samples:
    """Return YCbCr at full size: each cell is a block of luma and one pair of chroma values."""
    across, down = layout.subsampling
    cells = rows.reshape(rows.shape[0], -1, across * down + 2)
    blocks = cells[..., :-2].reshape(*cells.shape[:2], down, across).transpose(0, 2, 1, 3)
    luma = blocks.reshape(cells.shape[0] * down, cells.shape[1] * across)
    chroma = cells[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate([luma[..., np.newaxis], chroma], axis=2)[:n_rows, :width]
