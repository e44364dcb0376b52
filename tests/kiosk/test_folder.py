"""Photos of a tethered camera: what is new and whole appears on the page, whatever the clock says."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from browser import MARKS
from kiosk_page import kiosk_page, kiosk_server, open_browser, wait_state
from PIL import Image
from serving import jpeg

from aesedge.kiosk.camera_folder import CameraFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "camera"
    made.mkdir()
    (made / "old.jpg").write_bytes(jpeg(1))
    return made


@pytest.fixture
def watched(folder: Path) -> Iterator[CameraFolder]:
    with ThreadPoolExecutor(1) as pool:
        found = CameraFolder(folder, pool)
        assert found._look() is None  # what is there at the start is not shown
        yield found


def test_a_photo_is_taken_when_it_has_stopped_growing(watched: CameraFolder, folder: Path) -> None:
    data = jpeg(2)
    path = folder / "new.jpg"
    path.write_bytes(data[:500])
    assert watched._look() is None
    path.write_bytes(data)
    assert watched._look() is None
    assert watched._look() == path
    assert watched._look() is None  # once


def test_no_clock_is_asked(watched: CameraFolder, folder: Path) -> None:
    path = folder / "new.jpg"
    path.write_bytes(jpeg(2))
    os.utime(path, (0, 0))  # 1970
    assert [watched._look(), watched._look()] == [None, path]


def test_an_overwritten_photo_is_new(watched: CameraFolder, folder: Path) -> None:
    (folder / "old.jpg").write_bytes(jpeg(3))
    assert [watched._look(), watched._look()] == [None, folder / "old.jpg"]


@pytest.mark.parametrize("name", [".new.jpg", "new.txt", "new.cr2", "new.jpg.part"])
def test_other_files_are_passed_over(watched: CameraFolder, folder: Path, name: str) -> None:
    (folder / name).write_bytes(jpeg(2))
    (folder / "folder.jpg").mkdir(exist_ok=True)
    assert [watched._look() for _ in range(3)] == [None, None, None]


def test_a_folder_may_come_and_go(watched: CameraFolder, folder: Path) -> None:
    away = folder.with_name("away")
    folder.rename(away)
    assert watched._look() is None
    assert not watched.is_there
    away.rename(folder)
    assert watched._look() is None
    assert watched.is_there
    (folder / "new.jpg").write_bytes(jpeg(2))
    assert [watched._look(), watched._look()] == [None, folder / "new.jpg"]


def test_the_newest_is_kept_once_upright_and_small(watched: CameraFolder, folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned
    file = io.BytesIO()
    Image.new("RGB", (3000, 1500), (200, 30, 30)).save(file, "JPEG", exif=exif.tobytes())

    async def run() -> bytes | None:
        (folder / "big.jpg").write_bytes(file.getvalue())
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(watched.watch(), 2)
        return watched.take(watched.number)

    data = asyncio.run(run())
    assert data is not None
    assert Image.open(io.BytesIO(data)).size == (640, 1280)
    assert watched.take(watched.number) is None


class TestPage:
    """The page that shows them."""

    pytestmark = MARKS

    @pytest.fixture(scope="class")
    def browser(self) -> Iterator[Any]:
        with open_browser(None) as opened:
            yield opened

    def test_photos_appear_and_drop_the_ones_before(self, browser: Any, folder: Path) -> None:
        with kiosk_server(folder=folder) as running, kiosk_page(browser, running.address, allowed=False) as page:
            wait_state(page, "attract")
            assert "camera" in page.inner_text("#title")
            assert "operator's camera keeps it" in page.inner_text("#privacy")
            page.wait_for_timeout(900)  # it has looked at the folder once
            for seed in (5, 6):
                data = jpeg(seed, (800, 600))
                page.evaluate("() => performance.clearMarks()")
                (folder / "writing").write_bytes(data)
                (folder / "writing").rename(folder / f"{seed}.jpg")
                page.wait_for_function("() => performance.getEntriesByName('done').length === 1")
                score = running.photo(data).json()["score"]
                assert abs(float(page.inner_text("#points")) - score) < 0.5  # it was made smaller on the way
            (folder / "broken.jpg").write_bytes(b"no photo")
            wait_state(page, "unreadable")
            wait_state(page, "attract")
            shutil.move(folder, folder.with_name("away"))
            wait_state(page, "folderMissing")
            shutil.move(folder.with_name("away"), folder)
            wait_state(page, "attract")
