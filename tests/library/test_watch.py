"""``aesedge watch``: photos are judged when their files are complete."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from cli_runner import START, cli  # noqa: F401 (a fixture)
from photo_files import jpeg, write_photos

from aesedge.errors import CatalogueError
from aesedge.library.arrivals import Arrivals
from aesedge.library.catalogue import open_catalogue
from aesedge.library.finding import PhotoFile, Picture, state_of

if TYPE_CHECKING:
    from pathlib import Path

    from cli_runner import Cli


def picture(*paths: Path) -> Picture:
    file, *others = (PhotoFile(str(path), state_of(str(path))) for path in paths)
    return Picture(file, tuple(others))


def test_a_file_is_complete_when_it_has_not_changed_for_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("aesedge.library.arrivals.time.monotonic", lambda: now)
    (path,) = write_photos(tmp_path, 1)
    raw = tmp_path / "1.nef"
    raw.write_bytes(b"raw")
    arrivals, seen = Arrivals(), []
    for step in range(8):
        now += 0.6
        if step == 3:
            path.write_bytes(jpeg(5))
        arrivals.begin_look()
        seen.append((arrivals.is_complete(picture(path)), arrivals.is_complete(picture(raw))))
    assert [jpeg_is for jpeg_is, _ in seen] == [False, False, True, False, False, True, True, True]
    assert not any(raw_is for _, raw_is in seen)
    now += 1
    arrivals.begin_look()
    assert arrivals.is_complete(picture(raw))


@pytest.mark.parametrize("name", ["~a.jpg", "._a.jpg", "a.digikamtempfile.jpg"])
def test_files_that_programs_are_writing_are_left_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(jpeg(0))
    arrivals = Arrivals()
    for _ in range(2):
        arrivals.begin_look()
        assert not arrivals.is_complete(picture(path))


def test_once_judges_what_is_complete_and_ends(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    write_photos(folder, 2)
    (folder / "alone.nef").write_bytes(b"no RAW at all" * 100)
    code, out, err = cli("watch", "--once", folder)
    assert code == 1
    assert "alone.nef" in err
    assert "3 photos: 2 judged in " in out
    assert cli("watch", "--once", folder)[:2] == (0, "")


def n_known(catalogue: Path) -> int:
    try:
        with open_catalogue(catalogue) as found:
            return len(list(found.judgements()))
    except CatalogueError:
        return 0


def test_photos_are_judged_as_they_come_until_ctrl_c(bundle_folder: Path, tmp_path: Path) -> None:
    folder, catalogue = tmp_path / "photos", tmp_path / "x.aesedge"
    write_photos(folder, 1)
    options = ("--bundle", bundle_folder, "--threads", "1", "--catalogue", catalogue, "--interval", "0.2s")
    command = [sys.executable, "-c", START, "watch", *map(str, options), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        try:
            wait_for(lambda: n_known(catalogue) == 1)
            half = folder / "half.jpg"
            data = jpeg(7)
            with half.open("wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                for part in data[len(data) // 2 :: 999], b"":
                    time.sleep(0.5)
                    file.write(part)
                    file.flush()
            half.write_bytes(data)
            wait_for(lambda: n_known(catalogue) == 2)
            watching.send_signal(signal.SIGINT)
            out, err = watching.communicate(timeout=20)
        finally:
            watching.kill()
    assert watching.returncode == 130
    assert err.startswith("watching ")
    assert "half.jpg" not in err, "it was read before it was complete"
    assert out.splitlines()[0].split("  ")[1].startswith("1 photos: 1 judged in ")


def wait_for(condition) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
