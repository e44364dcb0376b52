"""Every layout and spelling of the same weights becomes the same tensors, byte for byte."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING

import pytest
from tiny import plain

pytest.importorskip("torch", reason="needs the extra [export]")

import gguf
import numpy as np
import onnx
import tiny_layouts
import tiny_llava
import torch
from aesedge_export import export_checkpoint
from aesedge_export.checkpoint import layouts
from aesedge_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from aesedge_export.checkpoint.vocabulary import read_vocabulary
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor
from transformers import LlamaConfig
from whole_reference import WholeReference

from aesedge.image import read_image
from aesedge.samples import SAMPLE_PHOTOS

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


@pytest.mark.parametrize("layout", tiny_layouts.LAYOUTS)
def test_every_layout_is_the_same_checkpoint(
    hf: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny_layouts.LAYOUTS[layout](hf, tmp_path / "made")
    if made.hub_cache is not None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(made.hub_cache))
    checkpoint, reference = open_checkpoint(made.folder, **made.options), open_checkpoint(made.same_as)
    assert same_checkpoint(checkpoint, reference)
    for name in reference.architecture.expected_shapes():
        middle = reference.shape(name)[0] // 2
        assert torch.equal(checkpoint.rows(name, 1, middle), reference.tensor(name)[1:middle])
        assert checkpoint.shape(name) == reference.shape(name)
        assert checkpoint.dtype(name) == torch.float16
    assert checkpoint.n_bytes == reference.n_bytes
    texts = ["", " ", "How is it?\n", "  two  spaces </s>", "Ünïcode 日本 🙂"]
    assert [checkpoint.encode(text) for text in texts] == [reference.encode(text) for text in texts]
    spm = SentencePieceProcessor(model_file=str(hf / "tokenizer.model"))
    assert [reference.encode(text) for text in texts] == [spm.encode(text) for text in texts]


def test_layouts_are_told_by_content(hf: Path, tmp_path: Path) -> None:
    found = {}
    for i, make in enumerate(tiny_layouts.LAYOUTS.values()):
        made = make(hf, tmp_path / str(i))
        if made.hub_cache is None:
            found.setdefault(open_checkpoint(made.folder, **made.options).layout, []).append(made)
    assert {layout: len(made) for layout, made in found.items()} == {"hf-llava": 3, "original-llava": 9, "lora": 3}


@pytest.mark.parametrize("padded", [True, False])
def test_padded_and_unpadded_vocabularies(tmp_path: Path, padded: bool) -> None:
    checkpoint = open_checkpoint(tiny_llava.write_hf(tmp_path / "hf", padded=padded))
    n_pieces = SentencePieceProcessor(model_file=str(tmp_path / "hf" / "tokenizer.model")).get_piece_size()
    n_rows, vocabulary = checkpoint.shape("lm_head.weight")[0], checkpoint.vocabulary
    assert n_rows == (-(-(n_pieces + 2) // 64) * 64 if padded else n_pieces)
    assert len(vocabulary.pieces) == len(vocabulary.scores) == len(vocabulary.types) == n_rows
    assert vocabulary.pieces[n_pieces : n_pieces + 2] == (["<image>", "<pad>"] if padded else [])
    assert set(vocabulary.types[n_pieces + 2 :]) == ({gguf.TokenType.UNUSED} if padded else set())
    assert vocabulary.pad == (n_pieces + 1 if padded else None)


@pytest.mark.parametrize(
    ("width", "inner", "n_layers", "n_heads", "n_rows", "n_parameters"),
    [  # as published of Llama 2, which LLaVA-1.5's text half is; 32064 rows are transformers' padding
        (4096, 11008, 32, 32, 32000, 6_738_415_616),
        (5120, 13824, 40, 40, 32000, 13_015_864_320),
        (4096, 11008, 32, 32, 32064, 6_738_939_904),
    ],
)
def test_sizes_of_the_published_models(
    width: int, inner: int, n_layers: int, n_heads: int, n_rows: int, n_parameters: int
) -> None:
    text = LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        vocab_size=n_rows,
    )
    assert sum(math.prod(shape) for shape in layouts.language_shapes(text).values()) == n_parameters


def test_sizes_of_a_checkpoint(hf: Path) -> None:
    checkpoint = open_checkpoint(hf)
    shapes = checkpoint.architecture.expected_shapes()
    tensors = {name: checkpoint.tensor(name) for name in shapes}
    assert checkpoint.n_bytes == sum(tensor.nbytes for tensor in tensors.values())
    text = [tensor.numel() for name, tensor in tensors.items() if name.startswith(("language_model.", "lm_head."))]
    assert checkpoint.n_text_parameters == sum(text)
    assert checkpoint.n_text_parameters + checkpoint.n_vision_parameters == sum(t.numel() for t in tensors.values())


@pytest.mark.parametrize(
    ("spelling", "reader"),
    [(tiny_llava.middle_spelling, "transformers"), (tiny_llava.new_spelling, "aesedge")],  # 4.57 does not know 5.6's
)
def test_spellings_that_transformers_does_not_write_have_parity(
    hf: Path, tmp_path: Path, spelling: Callable[[str], str], reader: str
) -> None:
    respelled = tiny_llava.respell(hf, tmp_path / "respelled", spelling)
    manifest = export_checkpoint(respelled, tmp_path / "out", gguf_types=["F16"])
    assert plain(manifest.fidelity)["stages"][-1]["figures"]["n_equal"] == 32
    assert plain(manifest.fidelity)["reference"].endswith("weights read by aesedge")
    with WholeReference(open_checkpoint(respelled), 1) as whole, WholeReference(open_checkpoint(hf), 1) as usual:
        assert whole.description.endswith(f"weights read by {reader}")
        pixels = [whole.pixels(read_image(SAMPLE_PHOTOS[0]))]
        np.testing.assert_array_equal(whole.encode_images(pixels)[0], usual.encode_images(pixels)[0])


def test_original_layout_gives_the_same_bytes(hf: Path, hf_bundle: Path, tmp_path: Path) -> None:
    original = tiny_llava.write_original(hf, tmp_path / "original")
    out = tmp_path / "out"
    manifest = export_checkpoint(original, out, name="tiny", gguf_types=["F16"])
    assert manifest.source.layout == "original-llava"
    assert (out / "llm-f16.gguf").read_bytes() == (hf_bundle / "llm-f16.gguf").read_bytes()
    assert graph_weights(out / "vision-fp32.onnx") == graph_weights(hf_bundle / "vision-fp32.onnx")
    assert plain(manifest.fidelity)["stages"][-1]["figures"]["n_equal"] == 32


def test_a_tower_named_by_its_path(hf: Path, tmp_path: Path) -> None:
    original = tiny_llava.write_original(hf, tmp_path / "original")
    clip = tiny_llava.split_off_tower(original, tmp_path / "clip")
    tiny_llava.edit_config(original, mm_vision_tower=str(clip))
    assert same_checkpoint(open_checkpoint(original), open_checkpoint(hf))


def test_a_tower_of_transformers_from_5_6(hf: Path, tmp_path: Path) -> None:
    original = tiny_llava.write_original(hf, tmp_path / "original")
    clip = tiny_llava.split_off_tower(original, tmp_path / "clip")
    tensors = load_file(clip / "model.safetensors")
    save_file({name.removeprefix("vision_model."): t for name, t in tensors.items()}, clip / "model.safetensors")
    assert same_checkpoint(open_checkpoint(original, vision_tower=clip), open_checkpoint(hf))


@pytest.mark.parametrize("unfrozen", [True, False])
def test_the_tower_in_the_checkpoint_wins(hf: Path, tmp_path: Path, unfrozen: bool) -> None:
    original = tiny_llava.write_original(hf, tmp_path / "original")
    tiny_llava.edit_config(original, unfreeze_mm_vision_tower=unfrozen)
    clip = tiny_llava.split_off_tower(shutil.copytree(original, tmp_path / "other"), tmp_path / "clip")
    tensors = load_file(clip / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, clip / "model.safetensors")
    assert same_checkpoint(open_checkpoint(original, vision_tower=clip), open_checkpoint(hf))


def test_full_attention_and_tied_embeddings_have_parity(tmp_path: Path) -> None:
    checkpoint = tiny_llava.write_hf(tmp_path / "tied", num_key_value_heads=8, tie_word_embeddings=True)
    manifest = export_checkpoint(checkpoint, tmp_path / "out", gguf_types=["F16"])
    assert plain(manifest.fidelity)["stages"][-1]["figures"]["n_equal_or_tied"] == 32
    names = [tensor.name for tensor in gguf.GGUFReader(tmp_path / "out" / "llm-f16.gguf").tensors]
    assert "output.weight" not in names


def test_another_head_width_and_stretched_positions_have_parity(tmp_path: Path) -> None:
    scaling = {"rope_type": "linear", "factor": 2.0}
    checkpoint = tiny_llava.write_hf(tmp_path / "wide", head_dim=64, rope_scaling=scaling, rope_theta=5e4)
    manifest = export_checkpoint(checkpoint, tmp_path / "out", gguf_types=["F16"])
    assert plain(manifest.fidelity)["stages"][-1]["figures"]["n_equal_or_tied"] == 32


def test_rows_that_k_quants_cannot_hold_are_named(tmp_path: Path) -> None:
    checkpoint = tiny_llava.write_hf(tmp_path / "odd", intermediate_size=480)
    manifest = export_checkpoint(checkpoint, tmp_path / "out", gguf_types=["q4_k_m"])
    stored = plain(manifest.fidelity)["types"]["Q4_K_M"]["stored_otherwise"]
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
