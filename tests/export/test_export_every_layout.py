"""Every layout goes the whole way to a bundle with parity, and all become the same language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny import plain

pytest.importorskip("torch", reason="needs the extra [export]")

import huggingface_hub
import onnx
import parity_photo
import tiny_layouts
import tiny_llava
from aesedge_export import export_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export

photo = parity_photo.photo  # fixture


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny")


def graph(path: Path) -> bytes:
    """Return a graph with its weights, without the metadata that say what it was made from."""
    return bytes(onnx.load(path).graph.SerializeToString(deterministic=True))


@pytest.mark.parametrize("layout", tiny_layouts.LAYOUTS)
def test_a_layout_becomes_a_proven_bundle(
    hf: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    made = tiny_layouts.LAYOUTS[layout](hf, tmp_path)
    if made.hub_cache is not None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(made.hub_cache))
    options = {"name": "tiny", "gguf_types": ["F16"], "vision_types": ["fp32"]}
    manifest = export_checkpoint(made.folder, tmp_path / "out", photos=[photo], **options, **made.options)
    assert plain(manifest.fidelity)["checked"]
    assert plain(manifest.fidelity)["types"]["F16"]["verdict"] == "as the original"
    export_checkpoint(made.same_as, tmp_path / "same", parity=False, **options)
    ours, theirs = tmp_path / "out", tmp_path / "same"
    assert (ours / "llm-f16.gguf").read_bytes() == (theirs / "llm-f16.gguf").read_bytes()
    assert graph(ours / "vision-fp32.onnx") == graph(theirs / "vision-fp32.onnx")
