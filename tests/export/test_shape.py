"""A bundle of random weights has the shape, types and token counts of the real one, and answers like any other."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import gguf
import llama_quantize
import numpy as np
import pytest
from aesedge_export.language.gguf_output import plan_layout
from aesedge_export.language.language_gguf import language_bytes, write_language
from aesedge_export.language.tensor_types import ASKED_TYPES
from aesedge_export.llama_cpp_pair.pair import read_pair
from aesedge_export.parity.gguf_runtime import GgufRuntime
from aesedge_export.progress import silent
from aesedge_export.questions import default_prompt, default_rating
from aesedge_export.random_weights import language as shape_language
from aesedge_export.random_weights import write_shape
from aesedge_export.random_weights.language import RandomLanguage, write_random
from aesedge_export.random_weights.mmproj import MMPROJ_NAME
from aesedge_export.random_weights.shapes import SHAPES, ModelShape, TowerShape, parse_shape
from aesedge_export.random_weights.tower import RandomTower
from aesedge_export.random_weights.vocabulary import make_vocabulary, prompt_texts
from aesedge_export.vision.onnx_graph import Graph
from aesedge_export.vision.vision_builder import write_from_tensors
from aesedge_export.vision.vision_files import vision_files
from conftest import SHARED, open_tiny
from tiny import plain
from tiny_shape import TINY, contents

from aesedge.bundle.bundle import open_bundle
from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.engine.rating import label_tokens
from aesedge.image import preprocess, read_image
from aesedge.llm import LanguageModel
from aesedge.llm.prompt import TEMPLATES
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    from pathlib import Path

LLAMA = SHARED / "vocab" / "ggml-vocab-llama-spm.gguf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shape") / "tiny"
    write_shape(TINY, folder, gguf_types=["q4_k_m", "Q8_0"], vision_types=["int8", "fp32"], mmproj=True)
    return folder


@pytest.fixture(scope="module")
def vocabulary_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of LLaVA-1.5's vocabulary."""
    path = tmp_path_factory.mktemp("vocabulary") / "llm.gguf"
    write_random(language(dataclasses.replace(TINY, n_embd=32, n_layer=1, n_vocab=32000)), "Q8_0", path)
    return path


def language(shape: ModelShape, *, seed: int = 0) -> RandomLanguage:
    return RandomLanguage(shape, make_vocabulary(shape.n_vocab), name=shape.name, seed=seed)


def test_the_bundle_looks_scores_and_writes(folder: Path) -> None:
    for vision, n in (("int8", 36), ("fp32", 16)):
        with open_tiny(folder, vision=vision, image_tokens=n) as model, model.look(SAMPLE_PHOTOS[0]) as photo:
            assert photo.image_embeddings.shape == (n, TINY.n_embd)
            assert set(photo.score().probabilities) == {"high", "medium", "low"}
            assert len(photo.attributes()) == 4
            assert photo.critique(max_tokens=8).text


def test_the_manifest_says_what_it_is(folder: Path) -> None:
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    assert [problem for _, problem in bundle.verify()] == [""] * 4
    assert manifest.name == "tiny-random"
    assert manifest.source.checkpoint == "random weights"
    assert "n_head_kv=2" in manifest.source.revision
    assert "random" in manifest.license
    assert not plain(manifest.fidelity)["checked"]
    assert "random" in plain(manifest.fidelity)["reason"]
    assert "cosine" not in str(plain(manifest.fidelity))
    assert (manifest.prompt, manifest.rating) == (default_prompt(), default_rating())
    assert (manifest.image.size, manifest.image_tokens.max) == (48, 36)
    assert (manifest.defaults.gguf, manifest.defaults.vision) == ("Q4_K_M", "int8")


def test_the_file_has_the_numbers_of_the_shape(folder: Path) -> None:
    fields = gguf.GGUFReader(folder / "llm-q4_k_m.gguf").fields
    found = {key.removeprefix("llama."): field.contents() for key, field in fields.items()}
    assert found["embedding_length"] == TINY.n_embd
    assert found["feed_forward_length"] == TINY.n_ff
    assert (found["attention.head_count"], found["attention.head_count_kv"]) == (TINY.n_head, TINY.n_head_kv)
    assert (found["block_count"], found["context_length"]) == (TINY.n_layer, TINY.n_ctx)
    assert len(set(found["tokenizer.ggml.tokens"])) == TINY.n_vocab


@pytest.mark.parametrize("n_embd", [256, 96, 40], ids=lambda n: f"rows of {n}")
def test_every_type_is_what_export_writes_of_the_same_weights(tmp_path: Path, n_embd: int) -> None:
    source = language(dataclasses.replace(TINY, n_embd=n_embd, n_ff=3 * n_embd, n_layer=9))
    targets = {kind: tmp_path / f"{kind}.gguf" for kind in ASKED_TYPES}
    expected = write_language(source, targets)
    for kind, path in targets.items():
        assert write_random(source, kind, tmp_path / "ours.gguf") == expected[kind]
        assert (tmp_path / "ours.gguf").read_bytes() == path.read_bytes(), kind


@pytest.mark.parametrize("n_embd", [512, 96], ids=lambda n: f"rows of {n}")
def test_rows_of_parts_are_what_export_writes_and_all_differ(
    tmp_path: Path, n_embd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape_language, "_POOL_VALUES", 32 * n_embd)
    source = language(dataclasses.replace(TINY, n_embd=n_embd))
    for name in ("token_embd.weight", "output.weight"):
        assert len(source.drawn(name)) < TINY.n_vocab
        assert len(np.unique(source.rows(name, 0, TINY.n_vocab), axis=0)) == TINY.n_vocab
    targets = {kind: tmp_path / f"{kind}.gguf" for kind in ("Q4_K_M", "Q8_0", "Q2_K", "F16")}
    write_language(source, targets)
    for kind, path in targets.items():
        write_random(source, kind, tmp_path / "ours.gguf")
        assert (tmp_path / "ours.gguf").read_bytes() == path.read_bytes(), kind


def test_types_are_those_of_llama_cpp(tmp_path: Path) -> None:
    source = language(dataclasses.replace(TINY, n_layer=9))
    write_random(source, "F16", tmp_path / "f16.gguf")
    kinds = ("Q4_K_M", "Q5_K_M", "Q3_K_M", "Q2_K", "IQ4_NL")
    llama_quantize.quantize_with_llama(
        [llama_quantize.Job(tmp_path / "f16.gguf", tmp_path / kind, GGUF_TYPES[kind].ftype) for kind in kinds]
    )
    for kind in kinds:
        write_random(source, kind, tmp_path / "ours.gguf")
        ours, theirs = (
            {name: record[:2] for name, record in llama_quantize.tensors(path).items()}
            for path in (tmp_path / "ours.gguf", tmp_path / kind)
        )
        assert ours == theirs, kind
        assert len({record[0] for record in ours.values()}) > 2, kind


def test_the_7b_has_the_size_of_vicuna_s() -> None:
    source = language(SHAPES["llava-1.5-7b"])
    n_bytes = language_bytes(source, ["Q4_K_M", "F16"])
    # TheBloke/vicuna-7B-v1.5-GGUF: 4.08 GB; 6,738,415,616 weights in two bytes each.
    assert n_bytes["Q4_K_M"] == pytest.approx(4.08e9, rel=1e-3)
    assert n_bytes["F16"] == pytest.approx(2 * 6_738_415_616, rel=1e-3)
    assert plan_layout(source, "Q4_K_M", weighted=False).types["blk.0.ffn_down.weight"] == "Q6_K"


def test_the_likeliest_token_is_clear(tmp_path: Path) -> None:
    write_random(language(TINY), "Q4_K_M", tmp_path / "llm.gguf")
    runtime = GgufRuntime(tmp_path / "llm.gguf", n_threads=1)
    image = np.random.default_rng(0).standard_normal((8, TINY.n_embd)).astype(np.float32)
    question = runtime.model.tokenize("Analyze the composition of this image. ASSISTANT:")
    [(tokens, logits)] = runtime.greedy([1], image, [question], 24)
    assert len(set(tokens)) == 24
    assert min(tokens) >= 259  # no end of the text, no bytes
    first, second = np.sort(logits, axis=1)[:, :-3:-1].T
    assert (first - second).min() > 1


@pytest.mark.skipif(not LLAMA.is_file(), reason="Llama's vocabulary is not here")
def test_our_prompts_take_as_many_tokens_as_with_llama_s_vocabulary(vocabulary_file: Path) -> None:
    counts = []
    for path in (vocabulary_file, LLAMA):
        with LanguageModel(path, vocab_only=True) as model:
            counts.append({text: len(model.tokenize(text)) for text in prompt_texts()})
    assert counts[0] == counts[1]


def test_the_prefix_takes_34_tokens_and_labels_few(vocabulary_file: Path) -> None:
    # As with Llama's own vocabulary, said in numbers for where that is not at hand.
    rating = default_rating()
    with LanguageModel(vocabulary_file, vocab_only=True) as model:
        assert len(model.tokenize(TEMPLATES["llava_v1"].before_image)) == 34
        assert len(model.tokenize(TEMPLATES["llava_v1"].after_image(rating.question))) == 48
        tokens = {text: len(model.tokenize(text)) for texts in rating.labels.values() for text in texts}
        label_tokens(rating.labels, rating.weights, model.tokenize)
        assert model.n_vocab == 32000
    assert tokens == {"High": 1, "A": 1, "Medium": 2, "B": 1, "Low": 1, "C": 1}


def test_any_text_comes_back_from_its_tokens(vocabulary_file: Path) -> None:
    text = "Blümchen 写真 (3.5 %)\n\tqxzj The quick   photographer's aesthetics."
    with LanguageModel(vocabulary_file, vocab_only=True) as model:
        pieces = b"".join(model.piece(token) for token in model.tokenize(text))
    assert pieces.decode().strip() == text


@pytest.mark.parametrize("n_vocab", [640, 700, 1024, 2048, 32000, 32064])
def test_a_vocabulary_has_the_exact_size(n_vocab: int) -> None:
    found = make_vocabulary(n_vocab)
    assert len(found.pieces) == len(set(found.pieces)) == len(found.scores) == len(found.types) == n_vocab


def test_llama_cpp_s_files_hold_the_same_tower(folder: Path) -> None:
    pair = read_pair([folder / MMPROJ_NAME, folder / "llm-q8_0.gguf"])
    tower = RandomTower(TINY, seed=0)
    epsilon = float(np.float32(tower.shape.layer_norm_eps))  # the file holds float32
    assert pair.mmproj.trained == dataclasses.replace(tower.shape, layer_norm_eps=epsilon)
    assert pair.mmproj.llama_cpp.n_layers == TINY.tower.n_layers
    for theirs, ours in ((pair.mmproj.image.mean, tower.image.mean), (pair.mmproj.image.std, tower.image.std)):
        assert theirs == pytest.approx(ours, abs=1e-7)
    assert pair.mmproj.image.pad_color == tower.image.pad_color
    for name in tower.shape.tensor_shapes():
        np.testing.assert_allclose(pair.mmproj.tensor(name), tower.tensor(name), rtol=1e-3, atol=1e-6)


def test_equal_arguments_give_equal_files(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"gguf_types": ["q4_k_m", "Q8_0"], "vision_types": ["int8", "fp32"], "mmproj": True}
    write_shape(TINY, tmp_path / "again", **options)
    assert contents(tmp_path / "again") == contents(folder)
    write_shape(TINY, tmp_path / "other", seed=1, **options)
    theirs = contents(tmp_path / "other")
    assert not [name for name, data in contents(folder).items() if theirs[name] == data]


def test_int8_has_the_operators_of_an_export(folder: Path, tmp_path: Path) -> None:
    """Nothing is calibrated, so it takes seconds; what runs is what a calibrated graph runs, size by size."""
    image, reduction = RandomTower(TINY, seed=0).image, open_bundle(folder).manifest.image_tokens.method
    tower = RandomTower(TINY, seed=0)
    with vision_files(
        lambda path: write_from_tensors(tower.shape, tower.tensor, path, facts={"checkpoint": "random weights"}),
        ["int8"],
        tmp_path,
        photos=[read_image(path) for path in SAMPLE_PHOTOS],
        image=image,
        reduction=reduction,
        report=silent,
    ) as exported:
        assert exported.made["int8"]["layers_in_fp32"] == []
        assert operators(exported.asked["int8"]) == operators(folder / "vision-int8.onnx")
    pixels = preprocess(read_image(SAMPLE_PHOTOS[0]), image)
    rows = []
    for precision in ("fp32", "int8"):
        with VisionTower(folder / f"vision-{precision}.onnx", device="cpu", n_threads=1) as opened:
            rows.append(opened.encode(pixels).astype(np.float64))
    cosines = (rows[0] * rows[1]).sum(axis=1) / np.linalg.norm(rows[0], axis=1) / np.linalg.norm(rows[1], axis=1)
    assert cosines.min() > 0.99


def operators(path: Path) -> list[tuple[str, str, list[tuple[int, ...]]]]:
    """Return kind, name and weights' sizes of every node."""
    graph = Graph(path)
    return [
        (node.op_type, node.name, [graph.weights[name].shape for name in node.input if name in graph.weights])
        for node in graph.nodes
    ]


def test_a_shape_of_one_s_own_is_llava_s_where_nothing_is_stated() -> None:
    found = parse_shape("mine: n_embd=2048, n_head=16, tower.n_layers=11,")
    assert found == ModelShape("mine", n_embd=2048, n_head=16, n_head_kv=16, tower=TowerShape(n_layers=11))
    assert parse_shape(str(found)) == found
    assert parse_shape(" pocket ") == SHAPES["pocket"]


def test_pocket_s_shape_is_that_of_its_language_model() -> None:
    pocket, bundle = SHAPES["pocket"], open_bundle("pocket")
    fields = gguf.GGUFReader(bundle.path("llm", bundle.manifest.defaults.gguf)).fields

    def number(key: str) -> int:
        return int(fields[f"llama.{key}"].contents())

    assert pocket.n_embd == number("embedding_length")
    assert pocket.n_ff == number("feed_forward_length")
    assert pocket.n_head == number("attention.head_count")
    assert pocket.n_head_kv == number("attention.head_count_kv")
    assert pocket.n_layer == number("block_count")
    assert pocket.n_vocab == number("vocab_size")
    assert pocket.n_ctx == number("context_length")
