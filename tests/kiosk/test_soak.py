"""Photo after photo, the page and its server grow no more; tests/measure/measure_kiosk.py takes more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from browser import MARKS
from measure_kiosk import soak

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = MARKS
N_CAPTURES = 200


def test_nothing_grows(tmp_path: Path) -> None:
    found = soak(N_CAPTURES, tmp_path)
    slopes = found["slope_a_capture"]
    assert abs(slopes["nodes"]) < 1, found
    assert abs(slopes["listeners"]) < 0.5, found
    assert slopes["heap_bytes"] < 2048, found
    assert slopes["browser_bytes"] < 60_000, found  # a decoded frame of the camera that stayed would take 1.2 MB
    assert slopes["server_bytes"] < 20_000, found  # a photo that stayed would take more
    assert found["restarts"] == 0
