"""An mmproj file is read as the model was trained, or as llama.cpp computes it; libmtmd is the witness for both."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
import tiny
from aesedge_export.language.gguf_reading import open_gguf
from aesedge_export.llama_cpp_pair import mmproj
from aesedge_export.llama_cpp_pair.import_proof import limits, pixel_levels
from aesedge_export.llama_cpp_pair.mmproj_copy import write_as_trained
from aesedge_export.llama_cpp_pair.mtmd_process import MARKER, MtmdProcess, mtmd_version
from aesedge_export.llama_cpp_pair.pair import file_type, read_pair
from aesedge_export.parity.stages import compare_rows
from aesedge_export.vision.vision_builder import write_from_tensors
from conftest import drawn_photo

from aesedge.errors import CheckpointError, InferenceError, UsageError
from aesedge.image import preprocess
from aesedge.llm import LanguageModel
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aesedge_export.llama_cpp_pair.mmproj import Mmproj, Reading
    from aesedge_export.vision.vision_builder import VisionShape

F16, F32, BF16, Q8_0 = (gguf.GGMLQuantizationType[name] for name in ("F16", "F32", "BF16", "Q8_0"))
PHOTO = drawn_photo(3, (90, 70))
needs_libmtmd = pytest.mark.skipif(not mtmd_version(), reason="libmtmd is not in this llama-cpp-python")


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return tiny.tower_tensors()


def read(path: Path) -> Mmproj:
    return mmproj.read_mmproj(open_gguf(path))


def rows_of(source: Mmproj, shape: VisionShape, folder: Path) -> np.ndarray:
    """What our graph makes of the photo."""
    graph = folder / "graph.onnx"
    write_from_tensors(shape, source.tensor, graph, facts={})
    with VisionTower(graph, device="cpu", n_threads=1) as tower:
        return tower.encode(preprocess(PHOTO, source.image))


def rows_of_libmtmd(path: Path, source: Mmproj) -> np.ndarray:
    picture = pixel_levels(preprocess(PHOTO, source.image), source.image)
    with MtmdProcess(path, n_threads=1) as reference:
        return reference.encode(picture[None], source.trained.n_embd)[0]


def is_within(figures: dict[str, float], allowed: dict[str, float]) -> bool:
    return (
        figures["min_cosine"] >= allowed["min_cosine"] and figures["max_relative_diff"] <= allowed["max_relative_diff"]
    )


@needs_libmtmd
@pytest.mark.parametrize(
    ("kind", "legacy", "reading"),
    [
        (F16, True, "trained"),
        (F32, False, "trained"),
        (F16, False, "llama.cpp"),
        (BF16, True, "trained"),
        (Q8_0, True, "trained"),
    ],
)
def test_the_graph_sees_as_libmtmd_does(
    tensors: dict[str, np.ndarray], tmp_path: Path, kind: Any, legacy: bool, reading: Reading
) -> None:
    path = tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors, legacy=legacy, kind=kind)
    source = read(path)
    ours = rows_of(source, source.shape(reading), tmp_path)
    if reading == "trained":
        write_as_trained(source, tmp_path / "copy.gguf")
        ours, theirs = ours[1:], rows_of_libmtmd(tmp_path / "copy.gguf", source)[:-1]
    else:
        theirs = rows_of_libmtmd(path, source)
    figures = compare_rows(ours, theirs)
    assert is_within(figures, limits(source)), figures


@needs_libmtmd
def test_llama_cpp_still_deviates_from_training(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    # llama.cpp's issues 25814 and 25817. When this fails, they are fixed there: the copy that undoes them has to go.
    path = tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors)
    source = read(path)
    theirs = rows_of_libmtmd(path, source)
    all_layers = replace(source.llama_cpp, n_layers=source.trained.n_layers)
    patches_last = replace(source.llama_cpp, class_last=False)
    for shape in (source.trained, all_layers, patches_last):
        assert compare_rows(rows_of(source, shape, tmp_path), theirs)["min_cosine"] < 0.95


@needs_libmtmd
@pytest.mark.parametrize("wrong", [{"hidden_act": "gelu"}, {"layer_norm_eps": 1e-1}, {"n_heads": 4}])
def test_a_wrong_reading_is_beyond_the_limits(
    tensors: dict[str, np.ndarray], tmp_path: Path, wrong: dict[str, Any]
) -> None:
    path = tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors)
    source = read(path)
    ours = rows_of(source, replace(source.llama_cpp, **wrong), tmp_path)
    figures = compare_rows(ours, rows_of_libmtmd(path, source))
    assert not is_within(figures, limits(source)), figures


@needs_libmtmd
def test_gelu_patch_bias_and_last_norm_are_llama_cpp_s(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    noise = np.random.default_rng(5).standard_normal((3, tiny.TOWER["hidden"])).astype(np.float32)
    more = {
        "vision_tower.embeddings.patch_embedding.bias": 0.3 * noise[0],
        "vision_tower.post_layernorm.weight": 1 + 0.3 * noise[1],
        "vision_tower.post_layernorm.bias": 0.3 * noise[2],
    }
    path = tiny.write_mmproj(tmp_path / "mmproj.gguf", {**tensors, **more}, keys={"clip.use_gelu": True})
    source = read(path)
    assert (source.llama_cpp.post_norm, source.trained.post_norm) == (True, False)
    figures = compare_rows(rows_of(source, source.llama_cpp, tmp_path), rows_of_libmtmd(path, source))
    assert is_within(figures, limits(source)), figures
    without = replace(source.llama_cpp, post_norm=False)
    assert compare_rows(rows_of(source, without, tmp_path), rows_of_libmtmd(path, source))["min_cosine"] < 0.99


@needs_libmtmd
def test_libmtmd_s_death_is_an_error_of_ours(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    lacking = {name: values for name, values in tensors.items() if name != "multi_modal_projector.linear_1.bias"}
    path = tiny.write_mmproj(tmp_path / "mmproj.gguf", lacking)
    picture = np.zeros((1, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE, 3), np.uint8)
    with pytest.raises(InferenceError, match=r"mmproj\.gguf.*libmtmd"), MtmdProcess(path, n_threads=1) as reference:
        reference.encode(picture, tiny.N_EMBD)
    with pytest.raises(InferenceError, match=r"none\.gguf"):
        MtmdProcess(tmp_path / "none.gguf", n_threads=1)


@needs_libmtmd
def test_libmtmd_reads_prompts_and_writes_on(
    tensors: dict[str, np.ndarray], gguf_path: Path, photo_path: Path, tmp_path: Path
) -> None:
    path = tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors)
    text = f"USER: {MARKER}\nHow is it? ASSISTANT:"
    with MtmdProcess(path, gguf_path, n_threads=1) as reference, LanguageModel(gguf_path) as llm:
        first, written = reference.prompt(photo_path, text), reference.generate(5)
        again, rates = reference.prompt(photo_path, text), reference.llama_bench(300, 3)
        around = [llm.tokenize(part) for part in text.split(MARKER)]
    assert first.n_tokens == again.n_tokens == 1 + sum(map(len, around)) + tiny.N_IMAGE_TOKENS
    assert (first.token, written.tokens[0]) == (again.token, first.token)
    assert len(written.tokens) == 5
    assert min(rates) > 0
    for part in ("decode_image_s", "vision_s", "prefill_s"):
        assert 0 < getattr(first, part) < first.total_s


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("kind", [F16, F32])
def test_tensors_are_those_that_were_written(
    tensors: dict[str, np.ndarray], tmp_path: Path, legacy: bool, kind: Any
) -> None:
    source = read(tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors, legacy=legacy, kind=kind))
    assert set(source.trained.tensor_shapes()) == set(tensors)
    for name, values in tensors.items():
        assert np.allclose(source.tensor(name), values, rtol=1e-3, atol=1e-6)


def test_the_picture_is_recovered_from_pixels_exactly(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    spec = read(tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors)).image
    levels = np.random.default_rng(0).integers(0, 256, (spec.size, spec.size, 3), dtype=np.uint8)
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    pixels = ((levels.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)[None]
    assert (pixel_levels(pixels, spec) == levels).all()
    assert np.allclose((spec.mean, spec.std), (tiny.MEAN, tiny.STD), rtol=1e-7)
    assert spec.pad_color == (122, 116, 104)


@pytest.mark.parametrize(
    ("keys", "trained", "llama_cpp"),
    [
        ({}, 3, 2),  # LLaVA's converter: the last layer was left out already, and llama.cpp leaves out another one
        ({"clip.vision.feature_layer": [-2]}, 3, 2),
        ({"clip.vision.feature_layer": [3]}, 3, 3),
        ({"clip.vision.feature_layer": [2]}, 2, 2),
    ],
)
def test_feature_layer(
    tensors: dict[str, np.ndarray], tmp_path: Path, keys: dict[str, object], trained: int, llama_cpp: int
) -> None:
    source = read(tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors, keys=keys))
    assert (source.trained.n_layers, source.llama_cpp.n_layers) == (trained, llama_cpp)


def test_a_known_tower_that_is_complete_holds_one_layer_too_many() -> None:
    assert mmproj._trained_layers(24, 1024) == 23
    assert mmproj._trained_layers(23, 1024) == 23
    assert mmproj._trained_layers(12, 768) == 11
    assert mmproj._trained_layers(5, 64) == 5


def without(part: str) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    return lambda tensors: {name: values for name, values in tensors.items() if part not in name}


def with_more(name: str) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    return lambda tensors: {**tensors, name: np.zeros((4, 4), np.float32)}


def as_it_is(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tensors


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        *(
            (as_it_is, {"clip.projector_type": kind}, f"projector '{kind}'")
            for kind in ("ldp", "ldpv2", "resampler", "qwen2vl_merger", "gemma3", "pixtral", "llama4")
        ),
        (without("projector"), {"clip.projector_type": None}, "no projector"),
        (as_it_is, {"clip.has_vision_encoder": False}, "no vision encoder"),
        (as_it_is, {"clip.use_silu": True}, "SiLU"),
        (as_it_is, {"clip.vision.mm_patch_merge_type": "spatial_unpad"}, "LLaVA-1.6"),
        (as_it_is, {"clip.vision.image_grid_pinpoints": [336, 672]}, "LLaVA-1.6"),
        (with_more("v.image_newline"), {}, "'v.image_newline' does not belong"),
        (with_more("mm.3.weight"), {}, "'mm.3.weight' does not belong"),
        (with_more("v.blk.1.ffn_gate.weight"), {}, "'v.blk.1.ffn_gate.weight' does not belong"),
        (as_it_is, {"clip.vision.feature_layer": [1, 3]}, "reads one"),
        (as_it_is, {"clip.vision.feature_layer": [9]}, "feature layer 9"),
        (as_it_is, {"clip.vision.feature_layer": [-1]}, "feature layer -1"),
        (as_it_is, {"clip.vision.image_size": None}, "'clip.vision.image_size' is missing"),
        (as_it_is, {"clip.vision.image_size": 33}, "patches"),
        (as_it_is, {"clip.vision.image_size": 64}, r"'v.position_embd.weight' has the shape \[17, 64\]"),
        (as_it_is, {"clip.vision.attention.head_count": 5}, "5 heads"),
        (as_it_is, {"clip.vision.block_count": "three"}, "is 'three'"),
        (as_it_is, {"clip.vision.block_count": 4}, r"missing, the first is 'v.blk.3"),
        (as_it_is, {"clip.vision.image_std": [0.0, 0.0, 0.0]}, "image_std"),
        (without("layers.1.self_attn.k_proj.bias"), {}, r"1 tensors are missing, the first is 'v.blk.1.attn_k.bias'"),
        (without("class_embedding"), {}, "'v.class_embd'"),
        (without("linear_2"), {}, "'mm.2.weight' is missing"),
    ],
)
def test_what_is_not_a_llava_15_is_refused_by_name(
    tensors: dict[str, np.ndarray],
    tmp_path: Path,
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    keys: dict[str, object],
    message: str,
) -> None:
    path = tiny.write_mmproj(tmp_path / "mmproj.gguf", change(tensors), keys=keys)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_of_2023_without_a_projector_s_name_is_read(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    source = read(tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors, keys={"clip.projector_type": None}))
    write_as_trained(source, tmp_path / "copy.gguf")
    assert open_gguf(tmp_path / "copy.gguf").values["clip.projector_type"] == "mlp"


@pytest.mark.parametrize("share", [0.0001, 0.005, 0.2, 0.9, 0.9999])
def test_a_file_that_is_cut_off_is_an_error(tensors: dict[str, np.ndarray], tmp_path: Path, share: float) -> None:
    path = tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"cut off or damaged|'mm.2.weight' is missing"):
        read(path)


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.gguf", b"PK\x03\x04 not at all", "not a GGUF file"),
        ("a.gguf", b"", "not a GGUF file"),
        ("a.gguf", b"GGUF", "cut off after 4 bytes"),
        ("a.gguf", b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        ("a.gguf", b"GGUF" + struct.pack("<III", 1, 0, 0), "GGUF version 1; versions 2 and 3 can be read"),
        ("a.gguf", b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "GGUF version 4; .*update aesedge"),
        ("a.gguf", b"GGUF" + struct.pack("<IQQ", 0xFFFFFFFF, 0, 0), "GGUF version 4294967295"),
        ("a.gguf", b"tjgg" + struct.pack("<I", 3), "GGML file, of before GGUF"),
        ("a.gguf", LFS_POINTER, "is a Git LFS pointer, .*git lfs pull"),
        ("a-00002-of-00003.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "--merge a-00001-of-00003.gguf a.gguf"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        open_gguf(tmp_path / name)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        open_gguf(tmp_path / "a.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(CheckpointError, match="not a file"):
        open_gguf(tmp_path / "pipe.gguf")
    with pytest.raises(CheckpointError, match="File name too long"):
        open_gguf(tmp_path / ("a" * 300))


def test_a_pair_is_found_in_any_order(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    llm, eye = tiny.write_gguf(tmp_path / "a.gguf"), tiny.write_mmproj(tmp_path / "b.gguf", tensors)
    for files in ([llm, eye], [eye, llm]):
        pair = read_pair(files)
        assert pair.mmproj.file.path == eye
        assert [file.path for file in pair.llms.values()] == [llm]


def test_files_that_are_no_pair_are_refused(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    llm = tiny.write_gguf(tmp_path / "llm.gguf")
    eye = tiny.write_mmproj(tmp_path / "eye.gguf", tensors)
    wide = tiny.write_mmproj(tmp_path / "wide.gguf", tiny.tower_tensors(n_embd=128))
    other = tiny.write_gguf(tmp_path / "other.gguf", architecture="qwen2")
    with pytest.raises(UsageError, match="no mmproj"):
        read_pair([llm])
    with pytest.raises(UsageError, match="give the language model"):
        read_pair([eye])
    with pytest.raises(UsageError, match="a second mmproj"):
        read_pair([llm, eye, wide])
    with pytest.raises(UsageError, match="one file of each type"):
        read_pair([llm, llm, eye])
    with pytest.raises(CheckpointError, match=r"128 wide, .* reads 64"):
        read_pair([llm, wide])
    with pytest.raises(CheckpointError, match="'qwen2'"):
        read_pair([other, eye])
    with pytest.raises(CheckpointError, match="another model"):
        read_pair([tiny.write_gguf(tmp_path / "b.gguf", n_embd=128, half=True), llm, wide])


def test_the_type_is_the_header_s_or_that_of_most_weights(tmp_path: Path) -> None:
    half = open_gguf(tiny.write_gguf(tmp_path / "a.gguf", half=True))
    assert file_type(half) == "F16"
    assert file_type(replace(half, values={**half.values, "general.file_type": 15})) == "Q4_K_M"
    for unknown in (9999, 1024):
        assert file_type(replace(half, values={**half.values, "general.file_type": unknown})) == "F16"
