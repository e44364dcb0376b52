"""Decode TIFF to an 8-bit picture: levels, colours, palette and transparency."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from aesedge.errors import ImageError
from aesedge.image.levels import Range, to_levels
from aesedge.image.picture import MAX_LOST, Picture
from aesedge.image.tiff_directory import Directory, read_directories
from aesedge.image.tiff_layout import (
    CIELAB,
    CMYK,
    ICCLAB,
    N_COLORS,
    OLD_JPEG,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    TiffLayout,
    is_photometric_missing,
    read_layout,
)
from aesedge.image.tiff_segments import Segments

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Samples = npt.NDArray[Any]

_ASSOCIATED, _UNASSOCIATED = 1, (2, 999)  # kinds of alpha; 999 is Corel Draw's
_MODES = {CMYK: "CMYK", CIELAB: "LAB", ICCLAB: "LAB", RGB: "RGB", PALETTE: "RGB", YCBCR: "RGB"}


def main_directory(file: BinaryIO, name: str) -> Directory:
    """Return the directory of the first page that is a picture of its own, not a thumbnail or mask of another."""
    directories = list(read_directories(file))
    if not directories:
        raise ImageError(f"{name}: is a TIFF without a picture; export it as JPEG or PNG")
    full = [one for one in directories if not one.integer(254) & 5 and one.integer(255, 1) != 2]
    return (full or directories)[0]


def read_tiff(file: BinaryIO, name: str, check: Callable[[TiffLayout], None]) -> Picture:
    """Decode a TIFF.

    Args:
        file: its bytes.
        name: the photo's name, for messages.
        check: called with the picture's layout before any pixel is decoded.

    Raises:
        ImageError: it is damaged, or of a kind that is not read here.
    """
    directory = main_directory(file, name)
    layout = read_layout(directory, name)
    check(layout)
    if layout.compression == OLD_JPEG and 513 in directory:
        return _old_jpeg(file, directory, name)
    picture = _TiffReader(file, directory, layout, name).read()
    picture.image.info |= _metadata(directory)
    orientation = directory.integer(274)
    if orientation:
        picture.image.getexif()[0x0112] = orientation
    return picture


def _metadata(directory: Directory) -> dict[str | tuple[int, int], Any]:
    tags = {"icc_profile": 34675, "xmp": 700}
    return {key: value for key, tag in tags.items() if (value := directory.bytes(tag))}


def _old_jpeg(file: BinaryIO, directory: Directory, name: str) -> Picture:
    """Decode the JPEG that an old TIFF holds whole."""
    start, length = directory.integer(513), directory.integer(514)
    file.seek(start)
    data = file.read(length or -1)
    if not data.startswith(b"\xff\xd8"):
        raise ImageError(f"{name}: is a TIFF with a JPEG of the old kind in parts, which is not read here; export it")
    image = Image.open(io.BytesIO(data))
    image.load()
    return Picture(image)


class _TiffReader:
    """One picture of a TIFF while it is decoded."""

    def __init__(self, file: BinaryIO, directory: Directory, layout: TiffLayout, name: str) -> None:
        self._segments = Segments(file, layout)
        self._directory = directory
        self._layout = layout
        self._name = name
        self._n_colors = N_COLORS[layout.photometric]
        self._alpha, self._is_associated = self._alpha_sample()
        self._warnings: list[str] = []
        self._white = self._value_of_white()
        self._table = self._palette() if layout.photometric == PALETTE else None
        self._mode = _MODES.get(layout.photometric, "L")

    def read(self) -> Picture:
        """Decode it, band by band."""
        size = self._layout.width, self._layout.height
        if is_photometric_missing(self._directory):
            self._warnings.append(f"it does not say what its colours mean; they are taken as {self._mode_name()}")
        image = Image.new(self._mode, size)
        alpha = None if self._alpha is None else Image.new("L", size)
        for y, samples in self._segments.bands():
            colors, opacity = self._levels(samples)
            image.paste(_image_of(colors, self._mode), (0, y))
            if alpha is not None and opacity is not None:
                alpha.paste(Image.fromarray(opacity), (0, y))
        self._tell_of_loss()
        if alpha is not None and 338 not in self._directory and alpha.getextrema() == (0, 0):
            alpha = None  # a fourth sample that is not called alpha, and would hide everything
        return Picture(image, alpha, warnings=self._warnings)

    def _mode_name(self) -> str:
        return "RGB" if self._layout.photometric == RGB else "grey"

    def _tell_of_loss(self) -> None:
        n_lost, layout = self._segments.n_lost, self._layout
        if not n_lost:
            return
        across, down = layout.segments_across_and_down
        n_all = across * down * layout.n_planes
        kind = "tiles" if layout.tile else "strips"
        if n_lost > MAX_LOST * n_all:
            raise ImageError(
                f"{self._name}: {n_lost} of its {n_all} {kind} are damaged or missing; copy or export the photo again"
            )
        self._warnings.append(f"the file is damaged: {n_lost} of {n_all} {kind} of the picture are missing")

    def _alpha_sample(self) -> tuple[int | None, bool]:
        """Return which sample of a pixel is its opacity, and whether the colours are multiplied with it."""
        kinds = self._directory.integers(338)
        n_extra = self._layout.n_samples - self._n_colors
        if not kinds and n_extra == 1 and self._layout.photometric == RGB:
            kinds = (_UNASSOCIATED[0],)
        for i, kind in enumerate(kinds[:n_extra]):
            if kind == _ASSOCIATED or kind in _UNASSOCIATED:
                return self._n_colors + i, kind == _ASSOCIATED
        return None, False

    def _value_of_white(self) -> float:
        """Return it, from a first pass over the values where the number of bits does not tell."""
        layout = self._layout
        if layout.kind == "f" or layout.bits == 32:
            found = Range()
            for _, samples in self._segments.bands():
                found.add(samples[..., : self._n_colors])
            self._warnings += found.warnings(layout.kind)
            return found.white(layout.kind)
        return float(2 ** (layout.bits - (layout.kind == "i")) - 1)

    def _palette(self) -> npt.NDArray[np.uint8]:
        """Return the palette [n, 3]; one whose 16-bit values are all below 256 was written with 8 bits."""
        values = np.array(self._directory.integers(320), dtype=np.uint32)
        n = 2**self._layout.bits
        if values.size < 3 * n:
            raise ImageError(f"{self._name}: has no palette for its colours; export the photo again")
        shift = 8 if values.max(initial=0) > 255 else 0
        return np.asarray((values[: 3 * n].reshape(3, n).T >> shift).astype(np.uint8))

    def _levels(self, samples: Samples) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
        """Return a band's colours [rows, width, channels], not premultiplied, and its opacity."""
        colors, opacity = samples[..., : self._n_colors], None
        if self._alpha is not None:
            alpha = samples[..., self._alpha]
            opacity = to_levels(alpha, 1.0 if self._layout.kind == "f" else self._white)
            if self._is_associated:
                colors = _unmultiplied(colors, alpha, self._white, is_float=self._layout.kind == "f")
        if self._table is not None:
            return self._table[colors[..., 0]], opacity
        photometric = self._layout.photometric
        if photometric in (CIELAB, ICCLAB):
            return _lab_levels(samples[..., :3], self._layout), opacity
        levels = to_levels(colors, 1.0 if colors.dtype.kind == "f" and self._layout.kind != "f" else self._white)
        if photometric == WHITE_IS_ZERO:
            levels = 255 - levels
        if photometric == YCBCR:
            levels = self._rgb_of_ycbcr(levels)
        return levels, opacity

    def _rgb_of_ycbcr(self, levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Convert as the TIFF's own coefficients and levels of black and white say."""
        if self._layout.compression in (7, 50001):  # the JPEG or WebP decoder has done it
            return levels
        red, green, blue = _values(self._directory.get(529), (0.299, 0.587, 0.114))
        y0, y1, b0, b1, r0, r1 = _values(self._directory.get(532), (0, 255, 128, 255, 128, 255))
        values = levels.astype(np.float32)
        y = (values[..., 0] - y0) * (255 / ((y1 - y0) or 255))
        cb = (values[..., 1] - b0) * (127 / ((b1 - b0) or 127))
        cr = (values[..., 2] - r0) * (127 / ((r1 - r0) or 127))
        r = y + cr * (2 - 2 * red)
        b = y + cb * (2 - 2 * blue)
        g = (y - red * r - blue * b) / (green or 1)
        rgb: npt.NDArray[np.uint8] = np.rint(np.clip(np.stack([r, g, b], axis=-1), 0, 255)).astype(np.uint8)
        return rgb


def _values(found: tuple[float, ...], default: tuple[float, ...]) -> tuple[float, ...]:
    return found if len(found) == len(default) else default


def _unmultiplied(colors: Samples, alpha: Samples, white: float, *, is_float: bool) -> Samples:
    """Return colours that were multiplied with their opacity as they were before, 0..1 (floats: in their own range)."""
    opacity = alpha.astype(np.float32)[..., np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        real = colors.astype(np.float32) / opacity
    real = np.nan_to_num(real, nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(np.minimum(real, white if is_float else 1.0))


def _lab_levels(samples: Samples, layout: TiffLayout) -> npt.NDArray[np.uint8]:
    """Return L, a, b as Pillow stores them in files: L of 0..255, a and b signed."""
    high = (samples >> (layout.bits - 8)).astype(np.uint8) if layout.bits > 8 else samples.astype(np.uint8)
    if layout.photometric == ICCLAB:  # a and b with 128 for 0
        high[..., 1:] ^= 128
    return high


def _image_of(levels: npt.NDArray[np.uint8], mode: str) -> Image.Image:
    height, width = levels.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(levels).tobytes())
