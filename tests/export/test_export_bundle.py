"""A tiny Hugging Face checkpoint becomes a bundle that answers as PyTorch does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tiny import plain

pytest.importorskip("torch", reason="needs the extra [export]")

import gguf
import numpy as np
import onnx
import parity_photo
import sentencepiece
import tiny_llava
from aesedge_export import export_checkpoint
from conftest import drawn_photo
from onnxruntime import InferenceSession

from aesedge.bundle.bundle import open_bundle
from aesedge.engine.model import load_model
from aesedge.llm import Context, LanguageModel

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bundle.manifest import Manifest

pytestmark = pytest.mark.export

TYPES = ("F16", "Q8_0", "Q4_K_M")

photo = parity_photo.photo  # fixture


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny-aesexpert")


@pytest.fixture(scope="module")
def exported(checkpoint: Path, photo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("out") / "tiny"
    other = photo.with_name("other.png")
    drawn_photo(2, (90, 150)).save(other)
    return out, export_checkpoint(
        checkpoint,
        out,
        gguf_types=TYPES,
        vision_types=["fp32", "fp16", "int8"],
        license="CC0-1.0",
        photos=[photo],
        calibrate=[other],
    )


@pytest.fixture(scope="module")
def bundle(exported: tuple[Path, Manifest]) -> Path:
    return exported[0]


def stages(manifest: Manifest) -> dict[str, dict[str, float]]:
    return {record["stage"]: record["figures"] for record in plain(manifest.fidelity)["stages"]}


def test_every_stage_is_far_inside_its_tolerance(exported: tuple[Path, Manifest]) -> None:
    # Measured here: 0, 2e-6, 1e-6, 1e-5, 2e-3. The limits below leave room for another CPU, not for a mistake.
    found = stages(exported[1])
    assert found["pixels"]["max_abs_diff"] <= 1e-5
    assert found["image embeddings fp32"]["max_abs_diff"] <= 1e-4
    assert found["image embeddings fp32"]["min_cosine"] >= 0.999999
    assert found["first-token logits"]["mean_kl"] <= 2e-4
    assert found["first-token logits"]["max_relative_diff"] <= 5e-3
    assert found["score"]["max_score_drift"] <= 0.05


def test_32_greedy_tokens_are_equal_at_f16(exported: tuple[Path, Manifest]) -> None:
    assert stages(exported[1])["greedy tokens"]["n_equal"] == 32


def test_greedy_text_of_the_tiny_model_is_not_degenerate(bundle: Path) -> None:
    # Else the test above would compare 32 times the same token.
    rows = np.random.default_rng(0).normal(size=(16, tiny_llava.N_EMBD)).astype(np.float32)
    with LanguageModel(bundle / "llm-f16.gguf") as model:
        seen = set()
        with Context(model, n_ctx=256, n_seq_max=1, n_threads=1) as context:
            context.prefill_tokens(0, [model.bos])
            context.prefill_embeddings(0, rows)
            token = int(context.prefill_tokens(0, model.tokenize("How is it?")).argmax())
            for _ in range(32):
                seen.add(token)
                token = int(context.prefill_tokens(0, [token]).argmax())
    assert len(seen) >= 8


def test_every_type_is_compared_with_pytorch(exported: tuple[Path, Manifest]) -> None:
    types = plain(exported[1].fidelity)["types"]
    assert list(types) == ["F16", "Q8_0", "Q4_K_M"]
    assert 0 <= types["F16"]["mean_kl"] < types["Q8_0"]["mean_kl"] < types["Q4_K_M"]["mean_kl"]
    assert types["Q8_0"]["mean_kl"] < 0.01
    assert [types[t]["verdict"] for t in ("F16", "Q8_0")] == ["as the original"] * 2
    assert "stored_otherwise" not in types["Q4_K_M"]


def test_a_type_is_made_with_and_without_importance_and_the_better_is_kept(exported: tuple[Path, Manifest]) -> None:
    figures = plain(exported[1].fidelity)["types"]["Q4_K_M"]
    (other,) = (figures[key] for key in ("with_importance", "without_importance") if key in figures)
    assert figures["mean_kl"] <= other["mean_kl"]
    assert plain(exported[1].fidelity)["importance"] == {"photos": ["other.png"]}
    assert not {"with_importance", "without_importance"} & set(plain(exported[1].fidelity)["types"]["Q8_0"])


def test_every_vision_precision_is_compared_with_pytorch(exported: tuple[Path, Manifest]) -> None:
    vision = plain(exported[1].fidelity)["vision"]
    assert list(vision) == ["fp32", "fp16", "int8"]
    assert vision["fp32"]["min_cosine"] > vision["fp16"]["min_cosine"] > vision["int8"]["min_cosine"] >= 0.99
    assert exported[1].fidelity.vision["int8"].layers_in_fp32 == []


@pytest.mark.parametrize("gguf_type", TYPES)
def test_the_runtime_scores_a_photo(bundle: Path, photo: Path, gguf_type: str) -> None:
    with load_model(bundle, gguf=gguf_type, threads=1, device="cpu") as model:
        score = model.look(photo).score()
    assert 0 <= score.score <= 10


def test_manifest_is_what_was_asked_and_verifies(exported: tuple[Path, Manifest]) -> None:
    folder, manifest = exported
    bundle = open_bundle(folder)
    assert bundle.manifest == manifest
    assert [problem for _, problem in bundle.verify()] == [""] * 7
    assert manifest.name == "tiny"
    assert manifest.license == "CC0-1.0"
    assert manifest.source.layout == "hf-llava"
    assert manifest.source.checkpoint == "tiny-aesexpert"
    assert manifest.defaults.gguf == "Q4_K_M"
    assert manifest.image.size == tiny_llava.IMAGE_SIZE
    assert manifest.image.pad_color == (122, 116, 104)
    assert manifest.image_tokens.max == tiny_llava.N_IMAGE_TOKENS
    assert manifest.n_embd == tiny_llava.N_EMBD
    assert plain(manifest.fidelity)["photos"] == ["photo.png"]
    assert manifest.defaults.vision == "int8"
    assert sorted(p.name for p in folder.iterdir()) == [
        "importance.gguf",
        "llm-f16.gguf",
        "llm-q4_k_m.gguf",
        "llm-q8_0.gguf",
        "manifest.json",
        "vision-fp16.onnx",
        "vision-fp32.onnx",
        "vision-int8.onnx",
    ]


def test_vision_graph_says_what_it_is_and_takes_any_batch(bundle: Path) -> None:
    path = bundle / "vision-fp32.onnx"
    model = onnx.load(path)
    assert {p.key: p.value for p in model.metadata_props} == {
        "role": "vision",
        "checkpoint": "tiny-aesexpert",
        "image_size": "56",
        "patch_size": "14",
        "n_image_tokens": "16",
        "n_embd": "256",
    }
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17), ("com.microsoft", 1)]
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape[1:]) for i in session.get_inputs()] == [("pixel_values", [3, 56, 56])]
    assert [(o.name, o.shape[1:]) for o in session.get_outputs()] == [("image_embeddings", [16, 256])]
    pixels = np.random.default_rng(0).normal(size=(5, 3, 56, 56)).astype(np.float32)
    together = session.run(None, {"pixel_values": pixels})[0]
    alone = np.concatenate([session.run(None, {"pixel_values": p[None]})[0] for p in pixels])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_layers_after_the_selected_one_are_not_in_the_graph(bundle: Path, checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_bytes())
    assert config["vision_config"]["num_hidden_layers"] == 3
    names = " ".join(node.name for node in onnx.load(bundle / "vision-fp32.onnx").graph.node)
    assert "layers.1/" in names
    assert "layers.2/" not in names
    assert "post_layernorm" not in names


def test_tokens_are_those_of_sentencepiece(bundle: Path, checkpoint: Path) -> None:
    reference = sentencepiece.SentencePieceProcessor(model_file=str(checkpoint / "tokenizer.model"))
    texts = ["USER: ", "\nHow is it?", "  two  spaces", "Ünïcode 日本 🙂", "High", "tab\tand\r\n"]
    with LanguageModel(bundle / "llm-f16.gguf", vocab_only=True) as model:
        assert [model.tokenize(text) for text in texts] == [reference.encode(text) for text in texts]


def test_added_tokens_are_control_tokens_and_padding_is_unused(bundle: Path) -> None:
    fields = gguf.GGUFReader(bundle / "llm-f16.gguf").fields
    tokens, types = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type"))
    image = tokens.index("<image>")
    assert tokens[image + 1] == "<pad>"
    assert types[image : image + 2] == [gguf.TokenType.CONTROL] * 2
    assert len(types) > image + 2
    assert set(types[image + 2 :]) == {gguf.TokenType.UNUSED}
    assert fields["tokenizer.ggml.padding_token_id"].contents() == image + 1
