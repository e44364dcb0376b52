"""Every layout and spelling of the same weights becomes the same tensors, byte for byte."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import gguf
import numpy as np
import onnx
import tiny_llava
import torch
from aesedge_export import export_checkpoint
from aesedge_export.checkpoint import Checkpoint, open_checkpoint
from aesedge_export.vocabulary import read_vocabulary
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture(scope="module")
def hf_bundle(hf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "hf"
    export_checkpoint(hf, out, name="tiny", gguf_types=["F16"])
    return out


def same_checkpoint(one: Checkpoint, other: Checkpoint) -> bool:
    names = one.architecture.expected_shapes()
    assert names.keys() == other.architecture.expected_shapes().keys()
    assert one.vocabulary == other.vocabulary
    assert one.image == other.image
    assert one.architecture.n_tower_layers == other.architecture.n_tower_layers
    return all(torch.equal(one.tensor(name), other.tensor(name)) for name in names)


def graph_weights(path: Path) -> dict[str, bytes]:
    return {t.name: t.raw_data for t in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        (tiny_llava.old_spelling, "language_model.model.norm.weight"),
        (tiny_llava.middle_spelling, "model.vision_tower.vision_model.pre_layrnorm.bias"),
        (tiny_llava.new_spelling, "model.vision_tower.pre_layrnorm.bias"),
    ],
)
def test_hugging_face_spellings_are_the_same_checkpoint(
    hf: Path, tmp_path: Path, spelling: Callable[[str], str], name: str
) -> None:
    respelled = tiny_llava.respell(hf, tmp_path / "respelled", spelling)
    assert name in load_file(respelled / "model.safetensors")
    assert same_checkpoint(open_checkpoint(respelled), open_checkpoint(hf))


@pytest.mark.parametrize(
    ("spelling", "reader"),
    [(tiny_llava.middle_spelling, "transformers"), (tiny_llava.new_spelling, "aesedge")],  # 4.57 does not know 5.6's
)
def test_spellings_that_transformers_does_not_write_have_parity(
    hf: Path, tmp_path: Path, spelling: Callable[[str], str], reader: str
) -> None:
    respelled = tiny_llava.respell(hf, tmp_path / "respelled", spelling)
    manifest = export_checkpoint(respelled, tmp_path / "out", gguf_types=["F16"])
    assert manifest.fidelity["stages"][-1]["figures"]["n_equal"] == 32
    assert manifest.fidelity["reference"].endswith(f"weights read by {reader}")


def test_original_layout_gives_the_same_bytes(hf: Path, hf_bundle: Path, tmp_path: Path) -> None:
    original = tiny_llava.write_original(hf, tmp_path / "original")
    out = tmp_path / "out"
    manifest = export_checkpoint(original, out, name="tiny", gguf_types=["F16"])
    assert manifest.source.layout == "original-llava"
    assert (out / "llm-f16.gguf").read_bytes() == (hf_bundle / "llm-f16.gguf").read_bytes()
    assert graph_weights(out / "vision-fp32.onnx") == graph_weights(hf_bundle / "vision-fp32.onnx")
    assert manifest.fidelity["stages"][-1]["figures"]["n_equal"] == 32


def test_tower_in_a_clip_folder(hf: Path, tmp_path: Path) -> None:
    original = tiny_llava.write_original(hf, tmp_path / "original")
    clip = tiny_llava.split_off_tower(original, tmp_path / "clip")
    reference = open_checkpoint(hf)
    assert same_checkpoint(open_checkpoint(original, vision_tower=clip), reference)
    tiny_llava.edit_config(original, mm_vision_tower=str(clip))
    assert same_checkpoint(open_checkpoint(original), reference)


def test_shards_and_pickles_are_read_alike(hf: Path, tmp_path: Path) -> None:
    tensors = load_file(hf / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002": names[::2], "model-00002-of-00002": names[1::2]}
    for suffix in (".safetensors", ".bin"):
        folder = tmp_path / suffix[1:]
        shutil.copytree(hf, folder)
        (folder / "model.safetensors").unlink()
        stem = "model" if suffix == ".safetensors" else "pytorch_model"
        files = {part.replace("model", stem, 1) + suffix: held for part, held in parts.items()}
        for file, held in files.items():
            part = {name: tensors[name] for name in held}
            if suffix == ".bin":
                torch.save(part, folder / file)
            else:
                save_file(part, folder / file)
        index = {"weight_map": {name: file for file, held in files.items() for name in held}}
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
        assert same_checkpoint(open_checkpoint(folder), open_checkpoint(hf))


def test_full_attention_and_tied_embeddings_have_parity(tmp_path: Path) -> None:
    checkpoint = tiny_llava.write_hf(tmp_path / "tied", num_key_value_heads=8, tie_word_embeddings=True)
    manifest = export_checkpoint(checkpoint, tmp_path / "out", gguf_types=["F16"])
    assert manifest.fidelity["stages"][-1]["figures"]["n_equal_or_tied"] == 32
    names = [tensor.name for tensor in gguf.GGUFReader(tmp_path / "out" / "llm-f16.gguf").tensors]
    assert "output.weight" not in names


def test_another_head_width_and_stretched_positions_have_parity(tmp_path: Path) -> None:
    scaling = {"rope_type": "linear", "factor": 2.0}
    checkpoint = tiny_llava.write_hf(tmp_path / "wide", head_dim=64, rope_scaling=scaling, rope_theta=5e4)
    manifest = export_checkpoint(checkpoint, tmp_path / "out", gguf_types=["F16"])
    assert manifest.fidelity["stages"][-1]["figures"]["n_equal_or_tied"] == 32


def test_rows_that_k_quants_cannot_hold_are_named(tmp_path: Path) -> None:
    checkpoint = tiny_llava.write_hf(tmp_path / "odd", intermediate_size=480)
    manifest = export_checkpoint(checkpoint, tmp_path / "out", gguf_types=["q4_k_m"])
    stored = manifest.fidelity["types"]["Q4_K_M"]["stored_otherwise"]
    assert set(stored) == {f"blk.{i}.ffn_down.weight" for i in range(2)}
    assert not {t for t in stored.values() if "_K" in t}
    assert [f.type for f in manifest.files if f.role == "llm"] == ["Q4_K_M"]


def test_gguf_header_is_the_one_llama_cpp_writes(hf_bundle: Path) -> None:
    reader = gguf.GGUFReader(hf_bundle / "llm-f16.gguf")
    header = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    big = {key: header.pop(f"tokenizer.ggml.{key}") for key in ("tokens", "scores", "token_type")}
    n_vocab = len(big["tokens"])
    assert len(big["scores"]) == len(big["token_type"]) == n_vocab
    assert header.pop("llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert header == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "tiny",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "llama.block_count": 2,
        "llama.context_length": 1024,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 4,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": 32,
        "llama.vocab_size": n_vocab,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": big["tokens"].index("<pad>"),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True,
    }
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert {kind for name, kind in kinds.items() if "norm" in name} == {"F32"}
    assert {kind for name, kind in kinds.items() if "norm" not in name} == {"F16"}


def test_a_pad_token_beyond_the_rows_is_left_out(hf: Path, tmp_path: Path) -> None:
    # Some Llama tokenizers list <pad> as 32000 beside an embedding of 32000 rows.
    shutil.copy(hf / "tokenizer.model", tmp_path)
    n_pieces = open_checkpoint(hf).vocabulary.pieces.index("<image>")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": n_pieces}))
    vocabulary = read_vocabulary(tmp_path, n_pieces, {"bos": 1, "eos": 2, "pad": n_pieces})
    assert len(vocabulary.pieces) == n_pieces
    assert "<pad>" not in vocabulary.pieces
    assert vocabulary.pad is None
    assert np.isfinite(vocabulary.scores).all()
