"""No command opens a network socket or writes outside of the folders that doctor names: each runs under strace.

``aesedge pull``, the exception, and exports are in export/test_export_silence.py.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from cli_runner import photos
from traced import AESEDGE, foreign, named_folders, needs_strace, run_traced

from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import package_version

ROOT = Path(__file__).parent.parent
PHOTO = str(SAMPLE_PHOTOS[0])
TINY = ("--bundle", "BUNDLE", "--threads", "1")
"""BUNDLE stands for the tiny one."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", *TINY, "--ask", "What?", "--max-tokens", "8", PHOTO),
    "run, an image from stdin": ("run", *TINY, "--max-tokens", "8"),
    "run --report": ("run", *TINY, "--report", "--max-tokens", "40", PHOTO),
    "score, pocket": ("score", "--json", PHOTO),
    "score, a folder": ("score", *TINY, "FOLDER"),
    "chat": ("chat", *TINY, "--max-tokens", "8", PHOTO),
    "info": ("info", "BUNDLE"),
    "info --card": ("info", "pocket", "--card"),
    "verify": ("verify", "BUNDLE"),
    "bundles": ("bundles",),
    "cache": ("cache",),
    "doctor": ("doctor", *TINY),
    "doctor --reuse": ("doctor", "--reuse", *TINY),
    "tune": ("tune", "--bundle", "BUNDLE", "--seconds", "20"),
    "bench": ("bench", *TINY, "--seconds", "2", "-r", "1"),
    "quantize": ("quantize", "--help"),
    "help": ("--help",),
}
API = """
import aesedge
with aesedge.load_model(BUNDLE, threads=1) as model, model.look(PHOTO) as photo:
    photo.score()
    list(photo.stream("What?"))
"""
SCRIPTS = {
    "the Python API": API.replace("PHOTO", repr(PHOTO)),
    "aesedge, then onnxruntime": "import aesedge, onnxruntime",
    "aesedge_export, then onnxruntime": "import aesedge_export, onnxruntime",
}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return named_folders(tmp_path_factory.mktemp("doctor") / "home")


@pytest.fixture(scope="module")
def places(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("photos")
    photos(folder, 2)
    return {"BUNDLE": str(bundle_folder), "FOLDER": str(folder)}


@needs_strace
def test_doctor_names_three_folders(named: tuple[Path, ...]) -> None:
    assert [folder.name for folder in named] == ["aesedge", "aesedge", "temporary"]


@needs_strace
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_opens_a_socket_or_writes_elsewhere(
    name: str, named: tuple[Path, ...], places: dict[str, str], tmp_path: Path
) -> None:
    arguments = [places.get(argument, argument) for argument in COMMANDS[name]]
    home = tmp_path / "home"
    stdin = Path(PHOTO).read_bytes() if "stdin" in name else b"What?\n"
    found = run_traced(home, *AESEDGE, *arguments, stdin=stdin)
    assert found.code == 0, found.output
    assert found.sockets == []
    assert foreign(found, home, named) == []
    assert found.left == []


@needs_strace
@pytest.mark.parametrize("name", SCRIPTS)
def test_no_other_entry_does(name: str, named: tuple[Path, ...], places: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    found = run_traced(home, sys.executable, "-c", SCRIPTS[name].replace("BUNDLE", repr(places["BUNDLE"])))
    assert found.code == 0, found.output
    assert (found.sockets, foreign(found, home, named), found.left) == ([], [], [])


SERVE = """
import os, pathlib, signal, sys, threading, time
from aesedge.cli import main
def end():
    while not pathlib.Path(sys.argv[2]).exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
sys.exit(main(["serve", "--threads", "1", "--port", sys.argv[1]]))
"""


@needs_strace
def test_serve_listens_and_opens_nothing(named: tuple[Path, ...], tmp_path: Path) -> None:
    from serving import Running, jpeg

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = Running(f"http://127.0.0.1:{port}", None)
    statuses: list[int] = []

    def ask() -> None:
        for _ in range(600):
            with contextlib.suppress(OSError):
                if running.ask("GET", "/ready").status == 200:
                    break
            time.sleep(0.1)
        statuses.append(running.photo(jpeg()).status)
        fetched = running.chat({"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.jpg"}})
        statuses.append(fetched.status)
        (tmp_path / "end").touch()

    asking = threading.Thread(target=ask)
    asking.start()
    found = run_traced(tmp_path / "home", sys.executable, "-c", SERVE, port, tmp_path / "end")
    asking.join()
    assert found.code == 0, found.output
    assert statuses == [200, 400]
    assert found.sockets  # it listens
    assert found.connected == []
    assert foreign(found, tmp_path / "home", named) == []


TALKS = "import socket; socket.socket(socket.AF_INET{}, socket.SOCK_{}).connect(('{}', 9))"
CONTROLS = {
    "a connection": TALKS.format("", "STREAM", "127.0.0.1"),
    "a datagram": TALKS.format("", "DGRAM", "127.0.0.1"),
    "IPv6": TALKS.format("6", "STREAM", "::1"),
    "a child": f"import os, sys; os.spawnl(0, sys.executable, 'x', '-c', {TALKS.format('', 'DGRAM', '127.0.0.1')!r})",
    "another service": "import socket; socket.socket(socket.AF_UNIX).connect('/nobody/listens')",
    "a socket alone": "import socket; socket.socket()",
}


@needs_strace
@pytest.mark.parametrize("name", CONTROLS)
def test_a_socket_would_be_seen(name: str, tmp_path: Path) -> None:
    found = run_traced(tmp_path / "home", sys.executable, "-c", CONTROLS[name])
    assert found.sockets
    assert bool(found.connected) == (name != "a socket alone")


@needs_strace
@pytest.mark.parametrize(
    "script",
    [
        "open(home / '.config', 'w')",
        "(home / '.config' / 'x').mkdir(parents=True)",
        "(home / 'a').symlink_to('/dev/null')",
        "os.mkdir('relative')",
        "os.mkfifo(home / 'fifo')",
        "open('/dev/shm/aesedge-test', 'w'); os.unlink('/dev/shm/aesedge-test')",
    ],
)
def test_a_foreign_file_would_be_seen(script: str, named: tuple[Path, ...], tmp_path: Path) -> None:
    home, start = tmp_path / "home", "import os, sys, pathlib; home = pathlib.Path.home(); "
    assert foreign(run_traced(home, sys.executable, "-c", start + script), home, named)


@needs_strace
@pytest.mark.skipif(
    tuple(map(int, package_version("onnxruntime").split(".")[:2] or [0])) < (1, 29), reason="it reports from 1.29 on"
)
def test_without_us_onnxruntime_would_be_seen(named: tuple[Path, ...], tmp_path: Path) -> None:
    home = tmp_path / "home"
    found = run_traced(home, sys.executable, "-c", "import onnxruntime")
    assert [path for path in foreign(found, home, named) if "Microsoft" in path.parts]
