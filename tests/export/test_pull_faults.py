"""Downloads of ``aesedge pull`` that break, are stopped, spoilt or have no room: said, and taken up where they were."""

from __future__ import annotations

import resource
import shutil
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import pulling
from aesedge_export.hub.checkpoint_store import alone, store_folder
from pulling import PIECE, WEIGHTS, Exports, checkpoint_files, command, last_line, partial_bytes, run

if TYPE_CHECKING:
    from hub_server import Hub

pytestmark = pytest.mark.export

server, exports = pulling.server, pulling.exports  # fixtures


def test_a_broken_connection_is_taken_up_where_it_broke(server: Hub, exports: Exports) -> None:
    server.publish("some/one", checkpoint_files())
    server.cut_after = {WEIGHTS: [500_000, 300_000]}
    assert run("some/one") == 0
    starts = [sent.start for sent in server.sent if sent.path == WEIGHTS]
    assert starts == [0, 500_000 // PIECE * PIECE, starts[1] + 300_000 // PIECE * PIECE]


def interrupted(server: Hub) -> str:
    """Publish a checkpoint and lose the connection for good in the middle of it; return the commit."""
    commit = server.publish("some/one", checkpoint_files())
    server.cut_after = {WEIGHTS: [500_000, 0, 0]}
    assert run("some/one") == 1
    assert partial_bytes() == 500_000 // PIECE * PIECE
    return commit


def test_a_second_run_asks_only_for_what_is_missing(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(server)
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "the connection to 127.0.0.1 broke again and again" in err
    assert str(store_folder("some/one")) in err
    assert not exports
    there = partial_bytes()
    server.sent.clear()
    assert run("some/one") == 0
    assert "download: 20% of 1.6 MB" in capsys.readouterr().err
    assert [(sent.path, sent.start) for sent in server.sent] == [(WEIGHTS, there)]
    assert exports[0]["files"] == {"config.json", "tokenizer.model", WEIGHTS, "pull.json"}


def test_the_commit_stays_the_same_between_runs(server: Hub, exports: Exports) -> None:
    first = interrupted(server)
    second = server.publish("some/one", checkpoint_files(seed=1))
    assert run("some/one") == 0
    assert exports[-1]["checkpoint"].name == first
    assert run("some/one", "--overwrite") == 0  # that download is done with and removed
    assert exports[-1]["checkpoint"].name == second


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_what_a_stopped_download_brought_is_used(server: Hub, exports: Exports, signal_number: int, code: int) -> None:
    server.publish("some/one", checkpoint_files())
    server.slow = threading.Event()
    process = command("some/one", "--accept-license")
    deadline = time.monotonic() + 60
    while partial_bytes() < 500_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal_number)
    begun = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - begun < 5
    assert "Traceback" not in err
    assert ("the same command goes on from there" in err) is (code == 130)
    there = partial_bytes()
    assert there >= 500_000
    server.slow.set()
    server.sent.clear()
    assert run("some/one") == 0
    assert [(sent.path, sent.start) for sent in server.sent] == [(WEIGHTS, there)]


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
def test_a_wrong_byte_is_found_and_the_file_removed(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    server.publish("some/one", checkpoint_files())
    server.corrupt = {path}
    assert run("some/one") == 1
    line = last_line(capsys)
    assert path in line
    assert "the file is removed, the same command downloads it again" in line
    assert not exports
    assert not list(store_folder("some/one").rglob(path))
    server.corrupt = set()
    assert run("some/one") == 0
    assert len(exports) == 1


def test_a_file_spoilt_on_disk_is_found(server: Hub, exports: Exports) -> None:
    server.publish("some/one", checkpoint_files())
    assert run("some/one", "--keep-checkpoint") == 0
    path = exports[0]["checkpoint"] / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert run("some/one", "--overwrite") == 1
    assert not path.exists()
    assert run("some/one", "--overwrite") == 0


class Usage(NamedTuple):
    free: int


def test_no_room_is_found_before_anything_is_downloaded(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish("some/one", checkpoint_files())
    n_checkpoint = sum(map(len, (checkpoint_files()[path] for path in ("config.json", "tokenizer.model", WEIGHTS))))
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(n_checkpoint + 1))  # none for the bundle
    assert run("some/one") == 2
    assert "no room for the checkpoint (1.6 MB still to come) and the bundle" in last_line(capsys)
    assert server.n_body_requests() == 0
    assert not store_folder("some/one").exists()


def test_a_full_disk_half_way_keeps_what_came(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    server.publish("some/one", checkpoint_files())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        assert run("some/one") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written: File too large; make room" in last_line(capsys)
    assert partial_bytes() == 1_000_000
    server.sent.clear()
    assert run("some/one") == 0
    assert [sent.start for sent in server.sent] == [1_000_000]


def test_no_network(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://user:pass@127.0.0.1:{free.getsockname()[1]}")
        assert run("some/one") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("aesedge: 127.0.0.1 cannot be reached; check the network")
    assert "pass" not in captured.err
    assert captured.out == ""


def test_offline_by_the_environment() -> None:
    process = command("some/one", "--accept-license", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[-1].endswith("unset HF_HUB_OFFLINE")
    assert "Traceback" not in err


def test_two_at_once_do_not_disturb_each_other(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    server.publish("some/one", checkpoint_files())
    with alone("some/one"):
        assert run("some/one") == 1
    assert "another 'aesedge pull' is at work" in last_line(capsys)
    assert run("some/one") == 0
