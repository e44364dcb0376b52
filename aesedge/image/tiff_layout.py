"""Describe how a TIFF stores its pixels, and refuse the variants that are not supported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aesedge.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aesedge.image.tiff_directory import Directory

Kind = Literal["u", "i", "f"]

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
N_COLORS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
_OTHER_COLORS = {4: "a transparency mask", 10: "ITU Lab colours", 32844: "LogL values", 32845: "LogLuv colours"}

NONE, LZW, OLD_JPEG, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD, WEBP = (
    *(1, 5, 6, 7, 8, 32773, 32946, 34925, 50000, 50001),
)
FAX = (2, 3, 4)
_READ = (NONE, *FAX, LZW, OLD_JPEG, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD, WEBP)
_OTHER_COMPRESSIONS = {
    number: name
    for name, numbers in {
        "JBIG": (9, 10, 34661),
        "JPEG 2000": (33003, 33004, 33005, 34712),
        "JPEG XL": (50002, 52546),
        "JPEG XR": (34934,),
        "LERC": (34887,),
        "lossy JPEG": (34892,),
        "NeXT": (32766,),
        "Pixar": (32908, 32909),
        "PNG": (34933,),
        "SGI Log": (34676, 34677),
        "ThunderScan": (32809,),
    }.items()
    for number in numbers
}
_SAMPLE_KINDS: dict[int, Kind] = {1: "u", 2: "i", 3: "f", 4: "u"}
_READ_BITS: dict[Kind, tuple[int, ...]] = {"u": (*range(1, 17), 24, 32), "i": (8, 16, 32), "f": (16, 24, 32, 64)}
_KIND_NAMES: dict[Kind, str] = {"u": "unsigned", "i": "signed", "f": "float"}
_WHOLE_FILE = 2**32 - 1


@dataclass(frozen=True)
class TiffLayout:
    """A picture's size, samples and segments (strips or tiles)."""

    order: str
    width: int
    height: int
    n_samples: int
    bits: int
    kind: Kind
    photometric: int
    compression: int
    predictor: int
    planar: bool
    reversed_bits: bool
    """Whether the lowest bit of each byte comes first."""
    tile: tuple[int, int] | None
    """Width and height of a tile; None for strips."""
    rows_per_strip: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    subsampling: tuple[int, int]
    """Pixels across and down that share a chroma sample (YCbCr that is not in JPEG)."""
    jpeg_tables: bytes
    fax_options: tuple[int, int]

    @property
    def n_planes(self) -> int:
        """How many sets of segments there are: one, or one for each sample of a pixel."""
        return self.n_samples if self.planar else 1

    @property
    def samples_per_segment_pixel(self) -> int:
        """How many samples of a pixel stand in one segment."""
        return 1 if self.planar else self.n_samples

    @property
    def segment_size(self) -> tuple[int, int]:
        """Width and height of a segment; the last strip may have fewer rows."""
        return self.tile or (self.width, self.rows_per_strip)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a decompressed segment; of a row of chroma cells where chroma is subsampled."""
        width, (across, down) = self.segment_size[0], self.subsampling
        if (across, down) != (1, 1):
            return -(-width // across) * (across * down + 2)
        return -(-width * self.samples_per_segment_pixel * self.bits // 8)

    def n_stored_rows(self, n_rows: int) -> int:
        """Return how many rows of ``row_bytes`` hold ``n_rows`` rows of pixels."""
        return -(-n_rows // self.subsampling[1])

    @property
    def segments_across_and_down(self) -> tuple[int, int]:
        """Columns and rows of segments, in each plane."""
        width, height = self.segment_size
        return -(-self.width // width), -(-self.height // height)


def read_layout(directory: Directory, name: str) -> TiffLayout:
    """Return how a directory's picture is laid out.

    Raises:
        ImageError: it is damaged, or of a kind that is not read here; the message names the kind.
    """
    tags = directory
    width, height = tags.integer(256), tags.integer(257)
    n_samples = max(tags.integer(277, 1), 1)
    bits = _one_of_all(tags.integers(258, (1,)), n_samples, "numbers of bits", name)
    format_ = _one_of_all(tags.integers(339, (1,)), n_samples, "sample formats", name)
    compression = tags.integer(259, NONE) or NONE
    tiled = 322 in tags and 323 in tags
    tile = (tags.integer(322), tags.integer(323)) if tiled else None
    rows = tags.integer(278, _WHOLE_FILE) or _WHOLE_FILE
    photometric = _photometric(tags, n_samples)
    layout = TiffLayout(
        order=tags.order,
        width=width,
        height=height,
        n_samples=n_samples,
        bits=bits,
        kind=_SAMPLE_KINDS.get(format_, "u"),
        photometric=photometric,
        compression=compression,
        predictor=tags.integer(317, 1) if compression in (LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD) else 1,
        planar=tags.integer(284, 1) == 2 and n_samples > 1,
        reversed_bits=tags.integer(266, 1) == 2,
        tile=tile,
        rows_per_strip=min(rows, max(height, 1)),
        offsets=tags.integers(324 if tiled and 324 in tags else 273),
        counts=tags.integers(325 if tiled and 325 in tags else 279),
        subsampling=_subsampling(tags, photometric, compression),
        jpeg_tables=tags.bytes(347),
        fax_options=(tags.integer(292), tags.integer(293)),
    )
    _refuse_what_is_not_read(layout, format_, tags.integer(332, 1), name)
    return layout


def is_photometric_missing(directory: Directory) -> bool:
    """Return whether the file does not say what its samples mean."""
    return 262 not in directory


def _photometric(tags: Directory, n_samples: int) -> int:
    """Return what the samples mean; without the tag, as libtiff guesses: three samples are RGB, one is grey."""
    if not is_photometric_missing(tags):
        return tags.integer(262)
    if tags.integer(259) in FAX:
        return WHITE_IS_ZERO
    return RGB if n_samples >= 3 else BLACK_IS_ZERO


def _subsampling(tags: Directory, photometric: int, compression: int) -> tuple[int, int]:
    if photometric != YCBCR or compression in (JPEG, OLD_JPEG, WEBP):  # their decoders give chroma at full size
        return 1, 1
    values = tags.integers(530, (2, 2))
    return (values[0], values[1]) if len(values) > 1 else (2, 2)


def _one_of_all(values: tuple[int, ...], n_samples: int, what: str, name: str) -> int:
    """Return the value that all samples of a pixel share."""
    first, *others = values[:n_samples] or (1,)
    if any(value != first for value in others):
        raise _refusal(f"samples of different {what} ({', '.join(map(str, values[:n_samples][:8]))})", name)
    return first


def _refuse_what_is_not_read(layout: TiffLayout, format_: int, ink_set: int, name: str) -> None:
    for what in (*_unread_values(layout, format_, ink_set), *_unread_storage(layout)):
        raise _refusal(what, name)
    across, down = layout.segment_size
    most = max(4 * layout.width * layout.height, 2**22)  # a tile may be larger than the picture, but not by much
    if layout.width > 0 and layout.height > 0 and (across <= 0 or down <= 0 or across * down > most):
        raise ImageError(f"{name}: its tiles have an impossible size ({across}x{down}); export the photo again")


def _unread_values(layout: TiffLayout, format_: int, ink_set: int) -> Iterator[str]:
    """Name what is not read here of the samples."""
    photometric, bits = layout.photometric, layout.bits
    if photometric not in N_COLORS:
        yield _OTHER_COLORS.get(photometric, f"colours of an unknown kind ({photometric})")
        return
    if layout.n_samples < N_COLORS[photometric]:
        yield f"{layout.n_samples} samples a pixel where its colours need {N_COLORS[photometric]}"
    if format_ not in _SAMPLE_KINDS:
        yield "complex numbers as samples" if format_ in (5, 6) else f"samples of an unknown format ({format_})"
    if bits not in _READ_BITS[layout.kind]:
        yield f"{_KIND_NAMES[layout.kind]} samples of {bits} bits"
    if photometric == PALETTE and (layout.kind != "u" or bits > 16):
        yield f"a palette with {_KIND_NAMES[layout.kind]} indices of {bits} bits"
    if photometric in (YCBCR, CIELAB, ICCLAB) and (layout.kind == "f" or bits not in (8, 16)):
        yield f"YCbCr or Lab colours in {_KIND_NAMES[layout.kind]} samples of {bits} bits"
    if photometric == CMYK and ink_set != 1:
        yield "other inks than cyan, magenta, yellow and black"


def _unread_storage(layout: TiffLayout) -> Iterator[str]:
    """Name what is not read here of the way in which the samples are stored."""
    if layout.compression not in _READ:
        yield f"a compression ({_OTHER_COMPRESSIONS.get(layout.compression, f'number {layout.compression}')})"
    if layout.compression in FAX and (layout.bits, layout.n_samples) != (1, 1):
        yield "fax compression of more than one bit a pixel"
    if layout.compression in (JPEG, OLD_JPEG, WEBP) and (layout.bits, layout.kind) != (8, "u"):
        yield f"JPEG or WebP compression of {layout.bits} bits"
    if layout.compression in (JPEG, OLD_JPEG, WEBP) and layout.samples_per_segment_pixel not in (1, 3, 4):
        yield f"JPEG or WebP compression of {layout.samples_per_segment_pixel} samples a pixel"
    if layout.subsampling != (1, 1):
        if layout.planar or layout.bits != 8 or layout.n_samples != 3 or layout.predictor != 1:
            yield "subsampled YCbCr that is not three interleaved samples of 8 bits"
        if any(factor not in (1, 2, 4) for factor in layout.subsampling):
            yield f"YCbCr subsampled by {layout.subsampling[0]}x{layout.subsampling[1]}"
    if layout.predictor == 2 and layout.bits not in (8, 16, 32, 64):
        yield f"a predictor for samples of {layout.bits} bits"
    if layout.predictor not in (1, 2, 3) or (layout.predictor == 3 and layout.kind != "f"):
        yield f"an unknown predictor ({layout.predictor})"


def _refusal(what: str, name: str) -> ImageError:
    return ImageError(f"{name}: is a TIFF with {what}, which is not read here; export it as JPEG or PNG")
