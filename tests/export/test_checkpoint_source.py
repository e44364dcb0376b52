"""A checkpoint streamed to every type gives what llama.cpp's quantizer makes of the file of its own precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import llama_quantize
import numpy as np
import tiny_llava
import torch
from aesedge_export.checkpoint.checkpoint import open_checkpoint
from aesedge_export.language import language_gguf
from aesedge_export.language.checkpoint_source import CheckpointSource
from aesedge_export.language.language_gguf import write_language
from aesedge_export.language.tensor_types import ASKED_TYPES
from safetensors.torch import load_file, save_file

from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.errors import CheckpointError
from aesedge.llm import LanguageModel

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export

PRECISIONS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 192, which K-quants do not fit, and of 512, which they do."""
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny", hidden_size=192, num_attention_heads=6)


def source_of(folder: Path) -> CheckpointSource:
    return CheckpointSource(open_checkpoint(folder), name="tiny")


def stored_as(folder: Path, precision: str) -> CheckpointSource:
    path = folder / "model.safetensors"
    # Values that need all of float32, so that a detour through another precision shows.
    tensors = {name: tensor.float() * 1.2345678 for name, tensor in load_file(path).items()}
    save_file({name: tensor.to(PRECISIONS[precision]) for name, tensor in tensors.items()}, path)
    return source_of(folder)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_type_is_what_llama_cpp_makes_of_the_unquantized_file(tmp_path: Path, precision: str) -> None:
    source = stored_as(tiny_llava.write_hf(tmp_path / "hf", num_key_value_heads=2), precision)
    assert source.precision == precision
    targets = {t: tmp_path / f"{t}.gguf" for t in GGUF_TYPES}
    write_language(source, targets, n_threads=2)
    jobs = [llama_quantize.Job(targets[precision], tmp_path / t, GGUF_TYPES[t].ftype) for t in ASKED_TYPES]
    llama_quantize.quantize_with_llama(jobs)
    for file_type in ASKED_TYPES:
        ours, theirs = (llama_quantize.tensors(path) for path in (targets[file_type], tmp_path / file_type))
        assert ours == theirs, file_type


def test_a_checkpoint_of_several_precisions_needs_the_widest(tmp_path: Path) -> None:
    folder = tiny_llava.write_hf(tmp_path / "hf")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("q_proj.weight") and "vision" not in n)
    save_file({**tensors, name: tensors[name].bfloat16()}, path)
    assert source_of(folder).precision == "F32"


@pytest.mark.parametrize("n_values", [192, 192 * 33, 192 * 200])
def test_chunks_may_cut_heads(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_values: int) -> None:
    write_language(source_of(folder), {"F16": tmp_path / "whole.gguf"})
    monkeypatch.setattr(language_gguf, "_CHUNK_VALUES", n_values)
    write_language(source_of(folder), {"F16": tmp_path / "cut.gguf"})
    assert (tmp_path / "cut.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_rows_of_q_and_k_turn_halves_into_pairs(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    head_dim = checkpoint.architecture.text.head_dim
    for ours, canonical in (("attn_q", "q_proj"), ("attn_k", "k_proj")):
        weight = checkpoint.tensor(f"language_model.layers.1.self_attn.{canonical}.weight").float().numpy()
        rows = CheckpointSource(checkpoint, name="tiny").rows(f"blk.1.{ours}.weight", 0, len(weight))
        for head in range(len(weight) // head_dim):
            first = head * head_dim
            for i in range(head_dim // 2):
                np.testing.assert_array_equal(rows[first + 2 * i], weight[first + i])
                np.testing.assert_array_equal(rows[first + 2 * i + 1], weight[first + head_dim // 2 + i])


def test_llama_cpp_loads_what_was_written(folder: Path, tmp_path: Path) -> None:
    write_language(source_of(folder), {"Q4_K_M": tmp_path / "llm.gguf"})
    with LanguageModel(tmp_path / "llm.gguf") as model:
        assert model.n_embd == 192


def test_a_value_beyond_f16_is_refused_for_f16_alone(tmp_path: Path) -> None:
    source = stored_as(tiny_llava.write_hf(tmp_path / "hf"), "BF16")
    path = tmp_path / "hf" / "model.safetensors"
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name][3, 5] = 1e5
    save_file(tensors, path)
    source = source_of(tmp_path / "hf")
    with pytest.raises(CheckpointError, match=r"hf: 'blk\.1\.ffn_up\.weight' has values beyond 65504"):
        write_language(source, {"F16": tmp_path / "f16.gguf", "BF16": tmp_path / "bf16.gguf"})
    assert not list(tmp_path.glob("*.gguf"))
    write_language(source, {"BF16": tmp_path / "bf16.gguf", "Q4_K_M": tmp_path / "q4.gguf"})
