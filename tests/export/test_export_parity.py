"""The parity check fails when it must: one thing is wrong at a time, and the right stage says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import numpy as np
import tiny_llava
import torch
from aesedge_export import export_checkpoint, language_gguf, parity, vision_graph
from aesedge_export.checkpoint import Checkpoint, open_checkpoint
from aesedge_export.language_gguf import write_f16
from aesedge_export.questions import default_prompt, default_rating
from aesedge_export.reference import Reference
from aesedge_export.stages import N_GREEDY, TIE_MAX_RELATIVE, Stage, compare_greedy, compare_logits
from aesedge_export.vision_graph import write_fp32

from aesedge.errors import ParityError
from aesedge.image import read_image
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from PIL import Image

pytestmark = pytest.mark.export

Tensor = torch.Tensor
LANGUAGE = "first-token logits|greedy tokens"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny"))


@pytest.fixture(scope="module")
def reference(source: Checkpoint) -> Iterator[Reference]:
    with Reference(source, n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def good(source: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_fp32(source, folder / "vision.onnx")
    write_f16(source, folder / "llm.gguf", name="tiny", progress=lambda _share: None)
    return folder


def alter(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Let export read one tensor wrongly; the reference of a Hugging Face checkpoint is read by transformers itself."""
    read = Checkpoint.tensor
    monkeypatch.setattr(Checkpoint, "tensor", lambda self, n: change(read(self, n)) if n == name else read(self, n))


def measure(reference: Reference, source: Checkpoint, vision: Path, llm: Path) -> list[Stage]:
    prompt, rating = default_prompt(), default_rating()
    inputs = parity.Inputs([read_image(SAMPLE_PHOTOS[0])], source.image, prompt, rating.question)
    tower = VisionTower(vision, device="cpu", n_threads=1)
    try:
        with parity.Runtime(tower, llm, 1) as runtime:
            return parity.measure_parity(reference, runtime, inputs, lambda _share: None)
    finally:
        tower.close()


def test_nothing_wrong_is_found_where_nothing_is_wrong(reference: Reference, source: Checkpoint, good: Path) -> None:
    stages = measure(reference, source, good / "vision.onnx", good / "llm.gguf")
    assert [stage.name for stage in stages][1] == "image embeddings"
    assert stages[-1].figures["n_equal"] == N_GREEDY


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("language_model.layers.1.self_attn.k_proj.weight", lambda t: t * 1.2),
        ("language_model.layers.0.mlp.gate_proj.weight", lambda t: t.roll(1, 0)),
        ("language_model.norm.weight", lambda t: t.flip(0)),
    ],
)
def test_a_wrong_weight_of_the_language_model_is_found(
    reference: Reference,
    source: Checkpoint,
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[Tensor], Tensor],
) -> None:
    alter(monkeypatch, name, change)
    write_f16(source, tmp_path / "llm.gguf", name="tiny", progress=lambda _share: None)
    with pytest.raises(ParityError, match=f"parity stage '({LANGUAGE})'"):
        measure(reference, source, good / "vision.onnx", tmp_path / "llm.gguf")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vision_tower.encoder.layers.1.mlp.fc1.bias", lambda t: t + 0.01),
        ("vision_tower.embeddings.position_embedding.weight", lambda t: t.roll(1, 0)),
        ("multi_modal_projector.linear_2.weight", lambda t: t * 1.001),
    ],
)
def test_a_wrong_weight_of_the_tower_is_found(
    reference: Reference,
    source: Checkpoint,
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[Tensor], Tensor],
) -> None:
    alter(monkeypatch, name, change)
    write_fp32(source, tmp_path / "vision.onnx")
    with pytest.raises(ParityError, match="parity stage 'image embeddings'"):
        measure(reference, source, tmp_path / "vision.onnx", good / "llm.gguf")


def test_rotary_rows_left_in_transformers_order_are_found(
    source: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_gguf, "interleave_rope", lambda weight, _n_head: weight)
    with pytest.raises(ParityError, match=f"parity stage '({LANGUAGE})'"):
        export_checkpoint(source.folder, tmp_path / "out", gguf_types=["F16"])
    assert list(tmp_path.iterdir()) == []


def test_other_pixels_are_found(
    reference: Reference, source: Checkpoint, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = parity.preprocess

    def centre_crop(image: Image.Image, spec: Any) -> Any:
        side = min(image.size)
        return preprocess(image.crop((0, 0, side, side)), spec)

    monkeypatch.setattr(parity, "preprocess", centre_crop)
    with pytest.raises(ParityError, match="parity stage 'pixels'"):
        measure(reference, source, good / "vision.onnx", good / "llm.gguf")


def test_a_missing_dummy_prefix_is_found(
    reference: Reference, source: Checkpoint, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = language_gguf.gguf.GGUFWriter
    add = writer.add_add_space_prefix
    monkeypatch.setattr(writer, "add_add_space_prefix", lambda self, _value: add(self, False))
    write_f16(source, tmp_path / "llm.gguf", name="tiny", progress=lambda _share: None)
    with pytest.raises(ParityError, match="parity stage 'prompt tokens'"):
        measure(reference, source, good / "vision.onnx", tmp_path / "llm.gguf")


def test_a_graph_that_differs_from_its_module_is_found(
    source: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = vision_graph._describe

    def spoil(checkpoint: Checkpoint, path: Path) -> None:
        describe(checkpoint, path)
        model = vision_graph.onnx.load(path)
        weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        values = np.frombuffer(weight.raw_data, np.float32) * np.float32(1.1)
        weight.raw_data = values.tobytes()
        vision_graph.onnx.save(model, path)

    monkeypatch.setattr(vision_graph, "_describe", spoil)
    with pytest.raises(ParityError, match=r"vision-fp32\.onnx: .*max diff"):
        write_fp32(source, tmp_path / "vision-fp32.onnx")


def logits(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


def test_greedy_counts_up_to_the_first_difference() -> None:
    steps = [logits(0, 1, 0.5)] * N_GREEDY
    same = ([1] * N_GREEDY, steps)
    other = ([1] * 5 + [2] * (N_GREEDY - 5), steps)
    assert compare_greedy(same, same) == {"n_equal": 32, "n_equal_or_tied": 32, "max_kl": 0.0}
    assert compare_greedy(other, same)["n_equal_or_tied"] == 5


def test_a_tie_within_noise_is_no_difference() -> None:
    steps = [logits(0, 1, 1 - TIE_MAX_RELATIVE / 2)] * N_GREEDY
    other = ([1] * 5 + [2] * (N_GREEDY - 5), steps)
    found = compare_greedy(other, ([1] * N_GREEDY, steps))
    assert (found["n_equal"], found["n_equal_or_tied"]) == (5, 32)


def test_a_shift_of_all_logits_is_no_difference() -> None:
    found = compare_logits(logits(1, 2, 4), logits(11, 12, 14))
    assert found["n_argmax_equal"] == 1
    assert found["max_relative_diff"] == pytest.approx(0, abs=1e-6)
    assert found["kl"] == pytest.approx(0, abs=1e-9)


def test_what_is_not_a_number_is_beyond_every_limit() -> None:
    stage = Stage("s", {"kl": 1.0})
    for value in (0.5, float("nan"), 0.2):
        stage.add(kl=value)
    with pytest.raises(ParityError, match="kl is nan"):
        stage.check()
