"""Making bundles is silent; ``aesedge pull`` alone uses the network, and writes nowhere else either."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import hub_server
import tiny
import tiny_llava
from traced import AESEDGE, foreign, named_folders, needs_strace, run_traced

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.export, needs_strace]

SHAPE = (
    "tiny:n_embd=256,n_ff=512,n_head=4,n_head_kv=2,n_layer=4,n_vocab=1024,n_ctx=1024,tower.image_size=48,"
    "tower.patch_size=8,tower.hidden=64,tower.n_heads=2,tower.n_layers=3,tower.intermediate=96"
)
FILES = {"CHECKPOINT": "checkpoint", "LLM": "tiny-llava.gguf", "MMPROJ": "mmproj-tiny-f16.gguf", "TINY": "bundle"}
COMMANDS: dict[str, tuple[str, ...]] = {
    "export": ("export", "CHECKPOINT", "--gguf", "q8_0", "--vision", "fp32,int8", "--out", "OUT"),
    "export, installed": ("export", "CHECKPOINT", "--gguf", "q8_0", "--vision", "fp32", "--no-parity"),
    "import": ("import", "LLM", "MMPROJ", "--out", "OUT", "--vision", "fp32"),
    "quantize": ("quantize", "TINY", "--gguf", "f16", "--out", "OUT"),
    "bench --shape": ("bench", "--shape", SHAPE, "--seconds", "2", "-r", "1"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tiny_llava.write_hf(folder / "checkpoint")
    tiny.write_gguf(folder / "tiny-llava.gguf")
    tiny.write_mmproj(folder / "mmproj-tiny-f16.gguf", tiny.tower_tensors())
    tiny.write_bundle(folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return named_folders(tmp_path_factory.mktemp("doctor") / "home")


@pytest.mark.parametrize("name", COMMANDS)
def test_making_bundles_is_silent(name: str, files: Path, named: tuple[Path, ...], tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "given" / "bundle"
    given = {word: str(files / path) for word, path in FILES.items()} | {"OUT": str(out)}
    found = run_traced(home, *AESEDGE, *(given.get(argument, argument) for argument in COMMANDS[name]))
    assert found.code == 0, found.output
    assert (found.sockets, foreign(found, home, named, out.parent), found.left) == ([], [], [])


def test_pull_alone_uses_the_network(files: Path, named: tuple[Path, ...], tmp_path: Path) -> None:
    home = tmp_path / "home"
    with hub_server.serving() as hub:
        hub.publish("some/tiny-llava", files / "checkpoint")
        hub.card = {"license": "mit"}
        arguments = ("pull", "some/tiny-llava", "--accept-license", "--gguf", "q8_0", "--vision", "fp32", "--no-parity")
        found = run_traced(home, *AESEDGE, *arguments, HF_ENDPOINT=hub.url)
    assert found.code == 0, found.output
    assert all("127.0.0.1" in call or "AF_INET" in call for call in found.sockets)
    assert any("AF_INET" in call for call in found.sockets)
    assert (foreign(found, home, named), found.left) == ([], [])
