"""``aesedge pull`` in tests: a hub on this machine, a checkpoint for it, an export that takes no time, the call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aesedge_export.cli
import hub_server
import numpy as np
import pytest
import tiny
from aesedge_export.hub import download
from aesedge_export.hub.checkpoint_store import store_folder
from safetensors.numpy import save

from aesedge.bundle.bundle import open_bundle
from aesedge.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Exports = list[dict[str, Any]]
"""The calls of the export: its options, the checkpoint's folder and the names of the files there."""

WEIGHTS = "model.safetensors"
PIECE = 1 << 16
HF_CONFIG = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from aesedge.cli import main
from aesedge_export.hub import download
download.CHUNK_BYTES = 1 << 16
download.RETRY_WAITS_S = ()
sys.exit(main())
"""


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
        monkeypatch.setattr(download, "CHUNK_BYTES", PIECE)
        monkeypatch.setattr(download, "RETRY_WAITS_S", (0.0,))
        running.config = HF_CONFIG
        yield running


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> Exports:
    """Calls of an export that makes a small bundle of anything."""
    calls: Exports = []

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


def partial_bytes(repository: str = "some/one") -> int:
    return sum(path.stat().st_size for path in store_folder(repository).rglob("*.incomplete"))


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.splitlines()[-1]
