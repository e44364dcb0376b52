"""The photo that exports are compared with PyTorch on: the limits in these tests were measured on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import drawn_photo

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    drawn_photo(1, (200, 130)).save(path)
    return path
