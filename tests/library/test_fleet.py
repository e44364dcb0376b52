"""``aesedge rate --on ray``: a local cluster of two workers, one of them killed in the middle; lists of photos."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

import psutil
import pytest
from cli_runner import cli  # noqa: F401 (a fixture)
from photo_files import jpeg, write_photos

from aesedge.library.catalogue import open_catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from cli_runner import Cli

N_PHOTOS = 40
START = """
import sys, ray
from aesedge.library import fleet
fleet.PART_PHOTOS = 4
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
from aesedge.cli import main
sys.exit(main(sys.argv[1:]))
"""


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the actors of a cluster that a process has started."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if any("MapWorker" in word for word in process.cmdline()):
                found.append(process)
    return found


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra fleet is not installed")
def test_a_worker_that_is_killed_loses_nothing(bundle_folder: Path, tmp_path: Path) -> None:
    folder, catalogue = tmp_path / "photos", tmp_path / "x.aesedge"
    write_photos(folder, N_PHOTOS)
    (folder / "bad.jpg").write_bytes(b"junk")
    (folder / "0.nef").write_bytes(b"beside 0.jpg")
    options = ("--bundle", bundle_folder, "--threads", "1", "--cache-size", "0", "--catalogue", catalogue)
    command = [sys.executable, "-c", START, "rate", "--on", "ray", *map(str, options), str(folder)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        try:
            parts = tmp_path / "x.aesedge.parts"
            end = time.monotonic() + 90
            while not list(parts.glob("[0-9a-f]*.aesedge")) and running.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.02)
            workers = workers_of(running.pid)
            if workers:
                workers[0].kill()
            out, err = running.communicate(timeout=100)
        finally:
            running.kill()
    assert running.returncode == 1, err
    assert err.count("bad.jpg") == 1
    assert workers, "no worker was found to kill"
    assert out.splitlines()[-1] == f"{N_PHOTOS + 1} photos: {N_PHOTOS} known, 1 failed"
    with open_catalogue(catalogue) as file:
        photos = {photo.path: photo for photo in file.judgements(folder)}
        assert file.n_judgements() == N_PHOTOS
        assert [path for path, _ in file.failures()] == [str(folder / "bad.jpg")]
    assert photos[str(folder / "0.jpg")].files == (str(folder / "0.jpg"), str(folder / "0.nef"))
    assert not parts.exists()


@pytest.mark.parametrize("kind", ["txt", "parquet"])
def test_photos_are_taken_from_a_list(kind: str, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    paths = [str(path) for path in write_photos(tmp_path / "photos", 3)][:2]
    listed = tmp_path / f"list.{kind}"
    if kind == "txt":
        listed.write_text("\n".join(paths) + "\n")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"path": paths, "other": [1, 2]}), listed)
    assert cli("rate", "--list", listed)[1].startswith("2 photos: 2 judged")
    (tmp_path / "photos" / "2.jpg").write_bytes(jpeg(9))
    assert cli("rate", "--list", listed)[1] == "2 photos: 2 known\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--list", "none.txt"), "none.txt: is no list of photos"),
        (("--list", "junk.parquet"), "junk.parquet: is no list of photos"),
        ((), "name folders or photos, or --list FILE"),
        (("--on", "mars", "."), "--on 'mars' is neither here nor ray"),
        (("--on", "ray", "--shard", "1/2", "."), "--on ray shares the photos by itself"),
    ],
)
def test_wrong_calls(
    options: tuple[str, ...],
    message: str,
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    code, out, err = cli("rate", *options)
    assert (code, out) == (2, "")
    assert message in err


def test_ray_that_is_missing_is_named(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    write_photos(tmp_path / "photos", 1)
    code, _, err = cli("rate", "--on", "ray", tmp_path / "photos")
    assert code == 2
    assert "pip install 'aesedge[fleet]'" in err
