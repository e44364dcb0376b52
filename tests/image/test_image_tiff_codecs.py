"""TIFFs that hold JPEG and other picture codecs are read rightly."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from image_files import encoded, scene
from PIL import Image
from tiff_files import (
    Kind,
    read,
    second_decoder,
    tiff,
)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16), (32, 16)])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_picture_codecs_inside(codec: str, mode: str, tile: tuple[int, int] | None, planar: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    if (codec == "webp" and (mode != "RGB" or planar)) or (mode == "L" and planar):
        pytest.skip("there is no such kind")
    samples = np.asarray(scene(61, 45).convert(mode))
    photometric = {"L": "minisblack", "RGB": "rgb", "CMYK": "separated"}[mode]
    layout: dict[str, Any] = {"tile": tile, "rowsperstrip": None if tile else 16}
    if mode != "L":
        layout["planarconfig"] = "separate" if planar else "contig"
    file = io.BytesIO()
    stored = np.moveaxis(samples, -1, 0) if planar else samples
    level = {"compressionargs": {"level": 95}}
    tifffile.imwrite(file, stored, photometric=photometric, compression=codec, **level, **layout)
    data = file.getvalue()
    found = second_decoder(data, planar).astype(np.uint8)
    expected = Image.frombytes(mode, (61, 45), np.ascontiguousarray(found).tobytes()).convert("RGB")
    assert np.abs(read(data) - np.asarray(expected).astype(int)).max() <= 2
    assert np.abs(found.reshape(45, 61, -1).astype(int) - samples.reshape(45, 61, -1)).mean() < 8


def test_jpeg_with_common_tables() -> None:
    for mode in ("RGB", "L"):
        data = encoded(scene(61, 45).convert(mode), "TIFF", compression="jpeg", quality=95)
        assert np.abs(read(data) - np.asarray(scene(61, 45).convert(mode).convert("RGB")).astype(int)).max() <= 12


def test_a_jpeg_of_the_old_kind() -> None:
    jpeg = encoded(scene(61, 45), "JPEG", quality=95)
    tags = {513: (4, [16]), 514: (4, [len(jpeg)])}
    kind = Kind(photometric=6, compression=6)
    data = tiff(np.zeros((45, 61, 3), np.uint32), kind, tags=tags, data=[jpeg])
    assert np.abs(read(data) - np.asarray(scene(61, 45)).astype(int)).max() <= 12
