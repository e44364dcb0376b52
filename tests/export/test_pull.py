"""``aesedge pull`` against a hub on this machine: what it fetches, what it asks before, what it makes and keeps."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import aesedge_export.cli
import numpy as np
import pulling
import tiny
import tiny_llava
from aesedge_export.hub import catalogue, download, pull
from aesedge_export.hub.checkpoint_store import store_folder
from pulling import WEIGHTS, Exports, checkpoint_files, command, last_line, run
from safetensors.numpy import save

from aesedge.bundle.bundle import installed_folders, open_bundle
from aesedge.cli import main
from aesedge.errors import ParityError
from aesedge.system.paths import data_folder

if TYPE_CHECKING:
    from pathlib import Path

    from hub_server import Hub

pytestmark = pytest.mark.export

ORIGINAL_CONFIG = {
    "model_type": "llava_llama",
    "architectures": ["LlavaLlamaForCausalLM"],
    "mm_projector_type": "mlp2x_gelu",
}

server, exports = pulling.server, pulling.exports  # fixtures


def test_a_checkpoint_becomes_a_bundle_that_runs(
    server: Hub, tmp_path: Path, photo_path: Path, capsys: pytest.CaptureFixture[str]
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


def test_a_missing_vision_tower_is_downloaded_too(server: Hub, exports: Exports) -> None:
    server.config = ORIGINAL_CONFIG
    tower = {"config.json": b"{}", "pytorch_model.bin": bytes(5000), "tf_model.h5": bytes(5000)}
    server.publish("open/clip", tower)
    server.publish("some/one", checkpoint_files(config={**ORIGINAL_CONFIG, "mm_vision_tower": "open/clip"}))
    assert run("some/one") == 0
    assert exports[0]["vision_tower"].parent.name == "open--clip"
    assert not list(store_folder("open/clip").parent.rglob("*.bin"))


def test_a_tower_that_the_checkpoint_holds_is_not_downloaded(server: Hub, exports: Exports) -> None:
    server.config = ORIGINAL_CONFIG
    files = checkpoint_files(config={**ORIGINAL_CONFIG, "mm_vision_tower": "open/clip"})
    files[WEIGHTS] = save({"model.vision_tower.vision_tower.vision_model.x": np.zeros(9, np.float32)})
    server.publish("some/one", files)
    assert run("some/one") == 0
    assert exports[0]["vision_tower"] is None


def test_a_revision_may_be_a_commit_or_its_beginning(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    first = server.publish("some/one", checkpoint_files())
    second = server.publish("some/one", checkpoint_files(seed=1))
    for asked, commit in ((first, first), (first[:8], first), (second[:7], second)):
        assert run(f"some/one@{asked}", "--overwrite") == 0
        assert exports[-1]["checkpoint"].name == commit
    assert run("some/one@0123456789", "--overwrite") == 1
    assert "no revision '0123456789'" in last_line(capsys)


@pytest.mark.parametrize("known", [True, False])
def test_the_catalogues_commit_is_looked_for(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, known: bool
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


def test_without_a_yes_to_the_licence_nothing_is_downloaded(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    server.publish("some/one", checkpoint_files())
    assert main(["pull", "some/one"]) == 2
    assert "licence was not accepted, nothing is downloaded; --accept-license accepts it" in last_line(capsys)
    assert server.n_body_requests() == 0
    assert not store_folder("some/one").exists()
    assert not exports


@pytest.mark.parametrize(("answer", "downloads"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_the_licence_is_asked_for(server: Hub, answer: str, downloads: bool) -> None:
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
    assert process.wait(timeout=60) == (1 if downloads else 2)
    assert (server.n_body_requests() > 0) is downloads
    assert (b"licence was not accepted" in shown) is not downloads
    assert (b"/1.6 MB" in shown) is downloads  # the bar


def test_closed_repositories_open_with_a_token_that_is_never_shown(
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish("some/one", checkpoint_files())
    server.closed_to = {"some/one"}
    assert run("some/one") == 1
    line = last_line(capsys)
    assert "accept the terms" in line
    assert "HF_TOKEN" in line
    monkeypatch.delenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")
    monkeypatch.setattr(download.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", server.token)
    server.cut_after = {WEIGHTS: [500_000, 0, 0]}
    assert run("some/one") == 1
    assert run("some/one") == 0
    captured = capsys.readouterr()
    for secret in (server.token, "s3cret"):
        assert secret not in captured.out + captured.err


def test_an_unknown_repository(server: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("no/body") == 1
    assert "127.0.0.1 has no such repository, or it is private" in last_line(capsys)


def test_xet_is_not_used(server: Hub, exports: Exports) -> None:
    server.publish("some/one", checkpoint_files())
    server.xet = True
    assert run("some/one") == 0
    assert not any("xet" in path for _, path in server.requests)


def test_the_checkpoint_can_be_kept(server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str]) -> None:
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
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish("some/one", checkpoint_files())
    old = tiny.write_bundle(data_folder() / "one")
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    working = aesedge_export.cli.export_command

    def fail(*_: Any, **__: Any) -> None:
        raise ParityError("parity stage 'pixels': off")

    monkeypatch.setattr(aesedge_export.cli, "export_command", fail)
    assert run("some/one", "--overwrite") == 1
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
    server: Hub, exports: Exports, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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
    server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


def test_without_a_name_the_catalogue_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull"]) == 0
    out = capsys.readouterr().out
    for entry in catalogue.catalogue().models:
        assert entry.name in out
