"""``aesedge pull`` against a hub on this machine: whole, interrupted, spoilt, without room, without a network."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import aesedge_export.cli
import hub_server
import tiny
import tiny_llava
from aesedge_export.hub import catalogue, hub, pull
from aesedge_export.hub.checkpoint_store import alone, store_folder
from safetensors.numpy import save

from aesedge.bundle import data_folder, installed_folders, open_bundle
from aesedge.cli import main
from aesedge.errors import ParityError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.export

WEIGHTS = "model.safetensors"
PIECE = 1 << 16
HF_CONFIG = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}
ORIGINAL_CONFIG = {
    "model_type": "llava_llama",
    "architectures": ["LlavaLlamaForCausalLM"],
    "mm_projector_type": "mlp2x_gelu",
}


def checkpoint_files(seed: int = 0, config: dict[str, Any] | None = None) -> dict[str, bytes]:
    """Return files that look like a checkpoint; the export of these tests does not read them."""
    values = np.random.default_rng(seed).standard_normal(400_000, dtype=np.float32)
    return {
        "config.json": json.dumps(config or HF_CONFIG).encode(),
        "tokenizer.model": bytes(1000),
        WEIGHTS: save({"language_model.lm_head.weight": values}),
        "README.md": b"read me",
        "optimizer.pt": bytes(1000),
        "pytorch_model.bin": bytes(1000),
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    with hub_server.serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(hub, "CHUNK_BYTES", PIECE)
        monkeypatch.setattr(hub, "RETRY_WAITS_S", (0.0,))
        running.config = HF_CONFIG
        yield running


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of an export that makes a small bundle of anything."""
    calls: list[dict[str, Any]] = []

    def export_command(checkpoint: Path, *, out: Path, **options: Any) -> Any:
        files = {path.name for path in checkpoint.iterdir() if path.is_file()}
        calls.append({"checkpoint": checkpoint, "files": files, **options})
        tower = options["vision_tower"]
        if tower is not None:
            assert (tower / "config.json").is_file()
        if options["overwrite"]:
            shutil.rmtree(out, ignore_errors=True)
        tiny.write_bundle(out)
        return open_bundle(out)

    monkeypatch.setattr(aesedge_export.cli, "export_command", export_command)
    return calls


def run(*arguments: object) -> int:
    return main(["pull", *map(str, arguments), "--accept-license"])


def partial_bytes(repository: str = "some/one") -> int:
    return sum(path.stat().st_size for path in store_folder(repository).rglob("*.incomplete"))


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_a_checkpoint_becomes_a_bundle_that_runs(
    server: hub_server.Hub, tmp_path: Path, photo_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_llava.write_hf(tmp_path / "checkpoint")
    (folder / "README.md").write_text("read me")
    (folder / "pytorch_model.bin").write_bytes(bytes(1000))
    commit = server.publish("some/tiny-llava", folder)
    server.card = {"license": "mit"}
    assert run("some/tiny-llava", "--gguf", "q8_0", "--no-parity") == 0
    captured = capsys.readouterr()
    assert f"commit:     {commit}" in captured.err
    assert "licence:    mit" in captured.err
    bundle = open_bundle("tiny-llava")
    assert bundle.manifest.source.checkpoint == "some/tiny-llava"
    assert (bundle.manifest.source.revision, bundle.manifest.license) == (commit, "mit")
    assert not [problem for _, problem in bundle.verify() if problem]
    assert not list(store_folder("some/tiny-llava").parent.rglob("*.safetensors"))
    assert not any("README" in path or "pytorch_model" in path for _, path in server.requests)
    assert main(["score", "--bundle", "tiny-llava", "--threads", "1", "--json", str(photo_path)]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["score"] <= 10


def test_a_missing_vision_tower_is_downloaded_too(server: hub_server.Hub, exports: list[dict[str, Any]]) -> None:
    server.config = ORIGINAL_CONFIG
    tower = {"config.json": b"{}", "pytorch_model.bin": bytes(5000), "tf_model.h5": bytes(5000)}
    server.publish("open/clip", tower)
    server.publish("some/one", checkpoint_files(config={**ORIGINAL_CONFIG, "mm_vision_tower": "open/clip"}))
    assert run("some/one") == 0
    assert exports[0]["vision_tower"].parent.name == "open--clip"
    assert not list(store_folder("open/clip").parent.rglob("*.bin"))


def test_a_tower_that_the_checkpoint_holds_is_not_downloaded(
    server: hub_server.Hub, exports: list[dict[str, Any]]
) -> None:
    server.config = ORIGINAL_CONFIG
    files = checkpoint_files(config={**ORIGINAL_CONFIG, "mm_vision_tower": "open/clip"})
    files[WEIGHTS] = save({"model.vision_tower.vision_tower.vision_model.x": np.zeros(9, np.float32)})
    server.publish("some/one", files)
    assert run("some/one") == 0
    assert exports[0]["vision_tower"] is None


def test_a_broken_connection_is_taken_up_where_it_broke(server: hub_server.Hub, exports: list[dict[str, Any]]) -> None:
    server.publish("some/one", checkpoint_files())
    server.cut_after = {WEIGHTS: [500_000, 300_000]}
    assert run("some/one") == 0
    starts = [sent.start for sent in server.sent if sent.path == WEIGHTS]
    assert starts == [0, 500_000 // PIECE * PIECE, starts[1] + 300_000 // PIECE * PIECE]


def interrupted(server: hub_server.Hub) -> str:
    """Publish a checkpoint and lose the connection for good in the middle of it; return the commit."""
    commit = server.publish("some/one", checkpoint_files())
    server.cut_after = {WEIGHTS: [500_000, 0, 0]}
    assert run("some/one") == 2
    assert partial_bytes() == 500_000 // PIECE * PIECE
    return commit


def test_a_second_run_asks_only_for_what_is_missing(
    server: hub_server.Hub, exports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
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


def test_the_commit_stays_the_same_between_runs(server: hub_server.Hub, exports: list[dict[str, Any]]) -> None:
    first = interrupted(server)
    second = server.publish("some/one", checkpoint_files(seed=1))
    assert run("some/one") == 0
    assert exports[-1]["checkpoint"].name == first
    assert run("some/one", "--overwrite") == 0  # that download is done with and removed
    assert exports[-1]["checkpoint"].name == second


def test_a_revision_may_be_a_commit_or_its_beginning(
    server: hub_server.Hub, exports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    first = server.publish("some/one", checkpoint_files())
    second = server.publish("some/one", checkpoint_files(seed=1))
    for asked, commit in ((first, first), (first[:8], first), (second[:7], second)):
        assert run(f"some/one@{asked}", "--overwrite") == 0
        assert exports[-1]["checkpoint"].name == commit
    assert run("some/one@0123456789", "--overwrite") == 2
    assert "no revision '0123456789'" in last_line(capsys)


@pytest.mark.parametrize("known", [True, False])
def test_the_catalogues_commit_is_looked_for(
    server: hub_server.Hub,
    exports: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    entry = catalogue.find("aesexpert-7b")
    first = server.publish(entry.repository, checkpoint_files())
    second = server.publish(entry.repository, checkpoint_files(seed=1))
    listed = catalogue.msgspec.structs.replace(entry, revision=first[:8] if known else "01234567")
    monkeypatch.setattr(pull, "find", lambda _asked: listed)
    assert run("aesexpert-7b") == 0
    assert exports[0]["checkpoint"].name == (first if known else second)
    assert exports[0]["license"] == entry.license
    assert ("has no commit 01234567" in capsys.readouterr().err) is not known
    assert open_bundle(data_folder() / "aesexpert-7b")


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
def test_a_wrong_byte_is_found_and_the_file_removed(
    server: hub_server.Hub, exports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], path: str
) -> None:
    server.publish("some/one", checkpoint_files())
    server.corrupt = {path}
    assert run("some/one") == 2
    line = last_line(capsys)
    assert path in line
    assert "the file is removed, the same command downloads it again" in line
    assert not exports
    assert not list(store_folder("some/one").rglob(path))
    server.corrupt = set()
    assert run("some/one") == 0
    assert len(exports) == 1


def test_a_file_spoilt_on_disk_is_found(server: hub_server.Hub, exports: list[dict[str, Any]]) -> None:
    server.publish("some/one", checkpoint_files())
    assert run("some/one", "--keep-checkpoint") == 0
    path = exports[0]["checkpoint"] / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert run("some/one", "--overwrite") == 2
    assert not path.exists()
    assert run("some/one", "--overwrite") == 0


class Usage(NamedTuple):
    free: int


def test_no_room_is_found_before_anything_is_downloaded(
    server: hub_server.Hub,
    exports: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.publish("some/one", checkpoint_files())
    n_checkpoint = sum(map(len, (checkpoint_files()[path] for path in ("config.json", "tokenizer.model", WEIGHTS))))
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(n_checkpoint + 1))  # none for the bundle
    assert run("some/one") == 2
    assert "no room for the checkpoint (1.6 MB still to come) and the bundle" in last_line(capsys)
    assert server.n_body_requests() == 0
    assert not store_folder("some/one").exists()


def test_a_full_disk_half_way_keeps_what_came(
    server: hub_server.Hub, exports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    server.publish("some/one", checkpoint_files())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        assert run("some/one") == 2
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
        assert run("some/one") == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("aesedge: 127.0.0.1 cannot be reached; check the network")
    assert "pass" not in captured.err
    assert captured.out == ""


COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from aesedge.cli import main
from aesedge_export.hub import hub
hub.CHUNK_BYTES = 1 << 16
hub.RETRY_WAITS_S = ()
sys.exit(main())
"""


def command(*arguments: str, terminal: int | None = None, **environment: str) -> subprocess.Popen[str]:
    """Start the real command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "pull", *arguments],
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=subprocess.PIPE if terminal is None else terminal,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
        env={**os.environ, **environment},
    )


def test_offline_by_the_environment() -> None:
    process = command("some/one", "--accept-license", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.splitlines()[-1].endswith("unset HF_HUB_OFFLINE")
    assert "Traceback" not in err


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_what_a_stopped_download_brought_is_used(
    server: hub_server.Hub, exports: list[dict[str, Any]], signal_number: int, code: int
) -> None:
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


def test_without_a_yes_to_the_licence_nothing_is_downloaded(
    server: hub_server.Hub, exports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    server.publish("some/one", checkpoint_files())
    assert main(["pull", "some/one"]) == 2
    assert "licence was not accepted, nothing is downloaded; --accept-license accepts it" in last_line(capsys)
    assert server.n_body_requests() == 0
    assert not store_folder("some/one").exists()
    assert not exports


@pytest.mark.parametrize(("answer", "downloads"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_the_licence_is_asked_for(server: hub_server.Hub, answer: str, downloads: bool) -> None:
    server.publish("some/one", checkpoint_files())
    server.cut_after = {WEIGHTS: [500_000, 0]}
    ours, theirs = pty.openpty()
    process = command("some/one", terminal=theirs)
    os.close(theirs)
    shown = b""
    while b"[y/N]: " not in shown:
        shown += os.read(ours, 1000)
    assert b"licence:    not stated" in shown
    os.write(ours, answer.encode() + b"\n")
    with contextlib.suppress(OSError):  # how a terminal says that the other side has ended
        while more := os.read(ours, 1000):
            shown += more
    os.close(ours)
    assert process.wait(timeout=60) == 2
    assert (server.n_body_requests() > 0) is downloads
    assert (b"licence was not accepted" in shown) is not downloads
    assert (b"/1.6 MB" in shown) is downloads  # the bar


def test_closed_repositories_open_with_a_token_that_is_never_shown(
    server: hub_server.Hub,
    exports: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.publish("some/one", checkpoint_files())
    server.closed_to = {"some/one"}
    assert run("some/one") == 2
    line = last_line(capsys)
    assert "accept the terms" in line
    assert "HF_TOKEN" in line
    monkeypatch.delenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")
    monkeypatch.setattr(hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", server.token)
    server.cut_after = {WEIGHTS: [500_000, 0, 0]}
    assert run("some/one") == 2
    assert run("some/one") == 0
    captured = capsys.readouterr()
    for secret in (server.token, "s3cret"):
        assert secret not in captured.out + captured.err


def test_an_unknown_repository(server: hub_server.Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("no/body") == 2
    assert "127.0.0.1 has no such repository, or it is private" in last_line(capsys)


def test_xet_is_not_used(server: hub_server.Hub, exports: list[dict[str, Any]]) -> None:
    server.publish("some/one", checkpoint_files())
    server.xet = True
    assert run("some/one") == 0
    assert not any("xet" in path for _, path in server.requests)


def test_the_checkpoint_can_be_kept(
    server: hub_server.Hub, exports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    server.publish("some/one", checkpoint_files())
    assert run("some/one", "--keep-checkpoint") == 0
    kept = exports[0]["checkpoint"]
    assert (kept / WEIGHTS).is_file()
    assert str(kept) in last_line(capsys)
    assert kept.is_relative_to(data_folder())
    assert data_folder() / "one" in installed_folders()
    assert data_folder() / "checkpoints" not in installed_folders()
    assert main(["bundles"]) == 0
    assert main(["verify"]) == 0


def test_after_a_failed_export_nothing_is_downloaded_again(
    server: hub_server.Hub,
    exports: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.publish("some/one", checkpoint_files())
    old = tiny.write_bundle(data_folder() / "one")
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    working = aesedge_export.cli.export_command

    def fail(*_: Any, **__: Any) -> None:
        raise ParityError("parity stage 'pixels': off")

    monkeypatch.setattr(aesedge_export.cli, "export_command", fail)
    assert run("some/one", "--overwrite") == 2
    err = capsys.readouterr().err
    assert "aesedge: parity stage 'pixels': off" in err
    assert f"the checkpoint is kept in {store_folder('some/one')}" in err
    assert "(complete)" in err
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    monkeypatch.setattr(aesedge_export.cli, "export_command", working)
    shutil.rmtree(old)
    server.requests.clear()
    assert run("some/one") == 0
    assert server.requests == []


def test_a_bundle_that_does_not_verify_is_no_success(
    server: hub_server.Hub,
    exports: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.publish("some/one", checkpoint_files())
    working = aesedge_export.cli.export_command

    def spoil(checkpoint: Path, *, out: Path, **options: Any) -> Any:
        bundle = working(checkpoint, out=out, **options)
        path = out / bundle.manifest.files[0].path
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        return bundle

    monkeypatch.setattr(aesedge_export.cli, "export_command", spoil)
    assert run("some/one") == 2
    assert "altered" in last_line(capsys)
    assert (exports[0]["checkpoint"] / WEIGHTS).is_file()


def test_what_can_be_known_before_is_said_before(
    server: hub_server.Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_bundle(data_folder() / "one")
    for arguments, words in (
        (["some/one"], "there is a bundle already"),
        (["some/two", "--gguf", "q9"], "unknown quantization type 'q9'"),
        (["some/two", "--gguf", ","], "no quantization type"),
        (["some/two", "--photo", tmp_path / "none.jpg"], "none.jpg"),
        (["some/two", "--name", "a b"], "'a b' is not a bundle name"),
        (["some/two", "--name", "checkpoints"], "give the bundle another name"),
        (["some/two", "--vision-tower", tmp_path], "no CLIP model"),
        (["nobody"], "not a known checkpoint"),
    ):
        assert run(*arguments) == 2
        assert words in last_line(capsys)
    assert server.requests == []


def test_two_at_once_do_not_disturb_each_other(
    server: hub_server.Hub, exports: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    server.publish("some/one", checkpoint_files())
    with alone("some/one"):
        assert run("some/one") == 2
    assert "another 'aesedge pull' is at work" in last_line(capsys)
    assert run("some/one") == 0


def test_without_a_name_the_catalogue_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull"]) == 0
    out = capsys.readouterr().out
    for entry in catalogue.catalogue().models:
        assert entry.name in out
