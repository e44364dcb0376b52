"""The proof fails when it must: one thing is wrong at a time, and the right stage says so."""

from __future__ import annotations

import dataclasses
import json
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import numpy as np
import tiny_llava
import torch
from aesedge_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from aesedge_export.language import checkpoint_source
from aesedge_export.language.checkpoint_source import CheckpointSource
from aesedge_export.language.language_gguf import write_language
from aesedge_export.parity import proof, vision_proof
from aesedge_export.parity.proof import prove
from aesedge_export.parity.proof_inputs import BundleFiles, Inputs
from aesedge_export.parity.stages import N_GREEDY, TIE_MAX_RELATIVE, Stage, compare_positions
from aesedge_export.questions import default_prompt, default_rating
from aesedge_export.vision import vision_graph
from aesedge_export.vision.vision_graph import write_fp32
from whole_reference import WholeReference

from aesedge.errors import ParityError
from aesedge.image import read_image
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from PIL import Image

pytestmark = pytest.mark.export

Tensor = torch.Tensor
LANGUAGE = "first-token logits|score|greedy tokens"
LOW = "Q6_K"  # without limits, and "close" on models as small as these where nothing is wrong


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    # Layers strong enough for what is wrong in one of them to be told from what six bits lose.
    return open_checkpoint(tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny", initializer_range=0.08))


@pytest.fixture(scope="module")
def good(source: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> BundleFiles:
    folder = tmp_path_factory.mktemp("good")
    write_fp32(source, folder / "vision.onnx")
    return BundleFiles(write_llm(source, folder, "F16", "BF16", "Q8_0", LOW), {"fp32": folder / "vision.onnx"})


def write_llm(source: Checkpoint, folder: Path, *types: str) -> dict[str, Path]:
    paths = {t: folder / f"{t}.gguf" for t in types}
    write_language(CheckpointSource(source, name="tiny"), paths)
    return paths


@contextmanager
def altered(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let what is written in the block have one wrong tensor; the reference reads the checkpoint after it."""
    read, rows = Checkpoint.tensor, Checkpoint.rows
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "tensor", lambda self, n: change(read(self, n)) if n == name else read(self, n))
        patched.setattr(
            Checkpoint, "rows", lambda self, n, a, b: change(read(self, n))[a:b] if n == name else rows(self, n, a, b)
        )
        yield


def measure(source: Checkpoint, files: BundleFiles, *types: str, **options: Any) -> dict[str, Any]:
    wanted = dataclasses.replace(files, llm={t: files.llm[t] for t in types or files.llm})
    inputs = Inputs([("china.jpg", read_image(SAMPLE_PHOTOS[0]))], source.image, default_prompt(), default_rating())
    return prove(source, wanted, inputs, n_threads=1, **options)


@pytest.mark.parametrize("whole", [True, False])
def test_nothing_wrong_is_found_where_nothing_is_wrong(source: Checkpoint, good: BundleFiles, whole: bool) -> None:
    steps: list[tuple[str, float]] = []
    opened = partial(WholeReference, source, 1) if whole else None
    fidelity = measure(source, good, open_reference=opened, progress=lambda *step: steps.append(step))
    figures = {stage["stage"]: stage["figures"] for stage in fidelity["stages"]}
    assert list(figures)[-3:] == LANGUAGE.split("|")
    assert figures["greedy tokens"]["n_equal"] == N_GREEDY
    assert ("layer by layer" in fidelity["reference"]) is not whole
    for of_type in fidelity["types"].values():
        assert of_type["n_positions"] == fidelity["n_positions"] == 2 * N_GREEDY
        assert of_type["against"] == "PyTorch"
        assert of_type["verdict"] in {"as the original", "close"}
    assert (
        fidelity["types"]["F16"]["mean_kl"] < fidelity["types"]["Q8_0"]["mean_kl"] < fidelity["types"][LOW]["mean_kl"]
    )
    assert fidelity["vision"]["fp32"]["min_cosine"] > 0.99999
    assert json.loads(json.dumps(fidelity, allow_nan=False)) == fidelity
    for step in {name for name, _ in steps}:
        assert [share for name, share in steps if name == step][-1] == 1.0


@pytest.mark.parametrize("base", ["F16", "BF16", "Q8_0"])
def test_each_precise_type_keeps_its_limits_by_a_wide_margin(source: Checkpoint, good: BundleFiles, base: str) -> None:
    for stage in measure(source, good, base)["stages"]:
        for figure, limit in stage["limits"].items():
            if not figure.startswith(("n_", "min_")):
                assert stage["figures"][figure] < limit / 3, (stage["stage"], figure)


def ones(tensor: Tensor) -> Tensor:
    return torch.ones_like(tensor)


LAYER = "language_model.layers.0."
WRONG_WEIGHTS = [
    pytest.param(f"{LAYER}self_attn.k_proj.weight", lambda t: t * 1.2, id="scaled"),
    pytest.param(f"{LAYER}mlp.gate_proj.weight", lambda t: t.roll(1, 0), id="shifted"),
    pytest.param(f"{LAYER}post_attention_layernorm.weight", ones, id="norm-missing"),
    pytest.param("language_model.norm.weight", lambda t: t.flip(0), id="norm-reversed"),
]


@pytest.mark.parametrize(("name", "change"), WRONG_WEIGHTS)
def test_a_wrong_weight_of_the_language_model_is_found(
    source: Checkpoint,
    good: BundleFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[Tensor], Tensor],
) -> None:
    with altered(monkeypatch, name, change):
        written = write_llm(source, tmp_path, "F16", "Q8_0", LOW)
    expect_wrong(source, BundleFiles(written, good.vision))


def test_rotary_rows_left_in_transformers_order_are_found(
    source: Checkpoint, good: BundleFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_source, "interleave_rope", lambda rows, _width: rows)
    expect_wrong(source, BundleFiles(write_llm(source, tmp_path, "F16", "Q8_0", LOW), good.vision))


def test_another_base_of_the_rotary_angles_is_found(
    source: Checkpoint, good: BundleFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = checkpoint_source.gguf.GGUFWriter
    add = writer.add_rope_freq_base
    monkeypatch.setattr(writer, "add_rope_freq_base", lambda self, value: add(self, 5 * value))
    expect_wrong(source, BundleFiles(write_llm(source, tmp_path, "F16", "Q8_0", LOW), good.vision))


def expect_wrong(source: Checkpoint, wrong: BundleFiles) -> None:
    """A file of a precise type is refused; one of a low type has no limits, and its verdict says it."""
    for base in ("F16", "Q8_0"):
        with pytest.raises(ParityError, match=f"parity stage '({LANGUAGE})'"):
            measure(source, wrong, base)
    fidelity = measure(source, wrong, LOW)
    assert "no limits" in fidelity["note"]
    assert fidelity["types"][LOW]["verdict"] in {"noticeably different", "not usable"}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vision_tower.encoder.layers.1.mlp.fc1.bias", lambda t: t + 0.01),
        ("vision_tower.embeddings.position_embedding.weight", lambda t: t.roll(1, 0)),
        ("multi_modal_projector.linear_2.weight", lambda t: t.T.contiguous()),
    ],
)
def test_a_wrong_weight_of_the_tower_is_found(
    source: Checkpoint,
    good: BundleFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change: Callable[[Tensor], Tensor],
) -> None:
    with altered(monkeypatch, name, change):
        write_fp32(source, tmp_path / "vision.onnx")
    with pytest.raises(ParityError, match="parity stage 'image embeddings fp32'"):
        measure(source, BundleFiles(good.llm, {"fp32": tmp_path / "vision.onnx"}))


def test_rows_of_the_image_in_another_order_are_found(
    source: Checkpoint, good: BundleFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = vision_proof.VisionTower.encode
    monkeypatch.setattr(vision_proof.VisionTower, "encode", lambda self, pixels: encode(self, pixels)[::-1].copy())
    with pytest.raises(ParityError, match="parity stage 'image embeddings fp32'"):
        measure(source, good, "F16")


def test_every_precision_of_the_tower_has_its_own_limit(source: Checkpoint, good: BundleFiles) -> None:
    both = BundleFiles({"F16": good.llm["F16"]}, {"int8": good.vision["fp32"], "fp32": good.vision["fp32"]})
    fidelity = measure(source, both)
    assert list(fidelity["vision"]) == ["fp32", "int8"]
    assert fidelity["vision"]["int8"]["limits"] == {"min_cosine": 0.99}
    with pytest.raises(ParityError, match="parity stage 'image embeddings int8': min_cosine"):
        measure(source, both, vision_limits={"int8": {"min_cosine": 1.1}})


def test_other_pixels_are_found(source: Checkpoint, good: BundleFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    preprocess = proof.preprocess

    def centre_crop(image: Image.Image, spec: Any) -> Any:
        side = min(image.size)
        return preprocess(image.crop((0, 0, side, side)), spec)

    monkeypatch.setattr(proof, "preprocess", centre_crop)
    with pytest.raises(ParityError, match="parity stage 'pixels'"):
        measure(source, good, "F16")


def test_a_missing_dummy_prefix_is_found(
    source: Checkpoint, good: BundleFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = checkpoint_source.gguf.GGUFWriter
    add = writer.add_add_space_prefix
    monkeypatch.setattr(writer, "add_add_space_prefix", lambda self, _value: add(self, False))
    with pytest.raises(ParityError, match="parity stage 'prompt tokens'"):
        measure(source, BundleFiles(write_llm(source, tmp_path, LOW), good.vision))


def test_another_vocabulary_is_found(source: Checkpoint, good: BundleFiles, tmp_path: Path) -> None:
    pieces = list(source.vocabulary.pieces)
    one, other = (pieces.index(piece) for piece in ("▁a", "▁i"))
    pieces[one], pieces[other] = pieces[other], pieces[one]
    swapped = dataclasses.replace(source, vocabulary=dataclasses.replace(source.vocabulary, pieces=pieces))
    wrong = write_llm(swapped, tmp_path, LOW)
    with pytest.raises(ParityError, match=r"prompt tokens.*the checkpoint's tokenizer"):
        measure(source, BundleFiles(wrong, good.vision))
    with pytest.raises(ParityError, match=rf"prompt tokens.*{LOW}\.gguf.*PyTorch"):
        measure(source, BundleFiles({"F16": good.llm["F16"], **wrong}, good.vision))


def test_what_an_importance_matrix_bought_stands_beside_its_type(source: Checkpoint, good: BundleFiles) -> None:
    files = BundleFiles(good.llm, good.vision, without_importance={"Q8_0": good.llm[LOW]})
    types = measure(source, files)["types"]
    assert types["Q8_0"]["without_importance"]["mean_kl"] == types[LOW]["mean_kl"]
    assert "without_importance" not in types[LOW]


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


def rows(*values: tuple[float, ...]) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


def test_a_tie_within_noise_is_no_difference() -> None:
    theirs = rows((0, 1, 1 - TIE_MAX_RELATIVE / 2), (0, 1, 0.5))
    found = compare_positions(rows((0, 1, 2), (0, 1, 2)), theirs)
    assert found.equal.tolist() == [False, False]
    assert found.tied.tolist() == [True, False]


def test_a_shift_of_all_logits_is_no_difference() -> None:
    found = compare_positions(rows((1, 2, 4)), rows((11, 12, 14)))
    assert found.equal.all()
    assert found.relative_diff == pytest.approx(0, abs=1e-6)
    assert found.kl == pytest.approx(0, abs=1e-9)


def test_divergence_is_the_sum_that_it_is_defined_as() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    found = compare_positions(np.log(q)[None].astype(np.float32), np.log(p)[None].astype(np.float32))
    assert found.kl[0] == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-5)


def test_what_is_not_a_number_is_beyond_every_limit() -> None:
    stage = Stage("s", {"kl": 1.0})
    for value in (0.5, float("nan"), 0.2):
        stage.add(kl=value)
    with pytest.raises(ParityError, match="kl is nan"):
        stage.check()
