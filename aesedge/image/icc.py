"""Build ICC profiles from a gamma and primaries, for files that state these instead of a profile."""

from __future__ import annotations

import struct

import numpy as np

_D50 = (0.9642, 1.0, 0.8249)
_SRGB_GAMMA = 2.2
_ADOBE_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# sRGB's curve as a parametric one: gamma, a, b, c, d.
_SRGB_CURVE = struct.pack(
    ">4sIHH5i", b"para", 0, 3, 0, *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)
_TOLERANCE = 0.003  # of a chromaticity; files round them to three or four digits


def matrix_profile(
    gamma: float, chromaticities: tuple[float, ...] | None, *, grey: bool, is_exact: bool = False
) -> bytes | None:
    """Return a profile of values that are light to the power 1/gamma; None where that is sRGB within rounding.

    Args:
        gamma: the exponent from values to light.
        chromaticities: x and y of white, red, green and blue; None for sRGB's.
        grey: whether the profile is for grey.
        is_exact: whether a gamma near 2.2 is meant as it is, and not for sRGB's curve.
    """
    primaries = chromaticities or _SRGB_CHROMATICITIES
    is_srgb = all(abs(a - b) <= _TOLERANCE for a, b in zip(primaries, _SRGB_CHROMATICITIES, strict=True))
    is_like_srgb = not is_exact and abs(gamma - _SRGB_GAMMA) < 0.05  # writers mean sRGB's curve by it
    if is_like_srgb and (is_srgb or grey):
        return None
    curve = _SRGB_CURVE if is_like_srgb else struct.pack(">4sIIHH", b"curv", 0, 1, min(round(gamma * 256), 65535), 0)
    tags = {b"wtpt": _xyz(_D50)}
    if grey:
        return _profile(b"GRAY", tags | {b"kTRC": curve})
    try:
        columns = _columns(primaries)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    tags |= {f"{letter}XYZ".encode(): _xyz(column) for letter, column in zip("rgb", columns, strict=True)}
    return _profile(b"RGB ", tags | {f"{letter}TRC".encode(): curve for letter in "rgb"})


def adobe_rgb_profile() -> bytes:
    """Return the profile of Adobe RGB (1998)."""
    return matrix_profile(563 / 256, _ADOBE_CHROMATICITIES, grey=False, is_exact=True) or b""


def _columns(primaries: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Return XYZ of red, green and blue, adapted to D50."""
    white, red, green, blue = (_of_xy(*primaries[i : i + 2]) for i in (0, 2, 4, 6))
    matrix = np.array([red, green, blue]).T
    matrix = matrix * np.linalg.solve(matrix, np.array(white))
    scale = _BRADFORD @ np.array(_D50) / (_BRADFORD @ np.array(white))
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ matrix
    return [tuple(float(value) for value in column) for column in adapted.T]


def _of_xy(x: float, y: float) -> tuple[float, float, float]:
    return x / y, 1.0, (1 - x - y) / y


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    offset = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        table += tag + struct.pack(">II", offset + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", offset + len(body), bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return head.ljust(128, b"\0") + table + body
