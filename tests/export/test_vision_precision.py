"""Vision graphs: fused, in half precision and in 8 bits, each near the fp32 graph or refused."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from aesedge_export.vision import vision_int8
from aesedge_export.vision.vision_precision import optimize, variations, write_fp16, write_int8
from onnx import numpy_helper

from aesedge.errors import ParityError
from aesedge.vision.tower import VisionTower

pytest.importorskip("torch", reason="needs the extra [export]")

import tiny_llava
from aesedge_export.checkpoint.checkpoint import open_checkpoint
from aesedge_export.vision.vision_graph import write_fp32

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

pytestmark = pytest.mark.export

Pixels = list["npt.NDArray[np.float32]"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    write_fp32(open_checkpoint(tiny_llava.write_hf(folder / "tiny")), folder / "raw.onnx")
    return folder / "raw.onnx"


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    random = np.random.default_rng(0)
    size = tiny_llava.IMAGE_SIZE
    return [random.normal(size=(1, 3, size, size)).astype(np.float32) for _ in range(2)]


@pytest.fixture(scope="module")
def fused(raw: Path) -> Path:
    path = raw.with_name("fused.onnx")
    optimize(raw, path)
    return path


def rows(path: Path, pixels: Pixels) -> npt.NDArray[np.float32]:
    with VisionTower(path, device="cpu", n_threads=1) as tower:
        return np.concatenate([tower.encode(p) for p in pixels])


def least_cosine(path: Path, fp32: Path, pixels: Pixels) -> float:
    a, b = rows(path, pixels), rows(fp32, pixels)
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def changed(source: Path, target: Path, change: Callable[[str, npt.NDArray[np.float32]], object]) -> Path:
    """Copy a graph with other weights."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.dtype == np.float32:
            change(tensor.name, values)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, target)
    return target


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_attention_and_gelu_are_fused_and_the_answer_stays(raw: Path, fused: Path, pixels: Pixels) -> None:
    found = operators(fused)
    assert found["MultiHeadAttention"] == found["QuickGelu"] == 2
    assert found["Gelu"] == 1
    assert not {"Softmax", "Sigmoid", "Erf"} & set(found)
    before = rows(raw, pixels)
    np.testing.assert_allclose(rows(fused, pixels), before, atol=1e-5 * float(np.abs(before).max()))


def test_every_precision_has_the_same_border(raw: Path, fused: Path, pixels: Pixels, tmp_path: Path) -> None:
    write_fp16(fused, tmp_path / "fp16.onnx", pixels)
    write_int8(fused, tmp_path / "int8.onnx", pixels)
    wanted = onnx.load(raw)
    for path in (fused, tmp_path / "fp16.onnx", tmp_path / "int8.onnx"):
        model = onnx.load(path)
        assert list(model.graph.input) == list(wanted.graph.input)
        assert list(model.graph.output) == list(wanted.graph.output)
        assert list(model.metadata_props) == list(wanted.metadata_props)
        assert model.opset_import[0].version == 17
        batch = np.concatenate(pixels)
        with VisionTower(path, device="cpu", n_threads=1) as tower:
            together = tower._session.run(None, {"pixel_values": batch})[0]
            assert together.shape == (2, tiny_llava.N_IMAGE_TOKENS, tiny_llava.N_EMBD)
    assert (tmp_path / "fp16.onnx").stat().st_size < 0.6 * fused.stat().st_size


def test_weights_that_the_exporter_shares_are_told_apart(raw: Path, pixels: Pixels, tmp_path: Path) -> None:
    """PyTorch writes equal weights once, behind Identity; a checkpoint with zero biases has many."""
    model = onnx.load(raw)
    biases = [t for t in model.graph.initializer if t.name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias"))]
    first = biases[0]
    first.CopyFrom(numpy_helper.from_array(np.zeros(first.dims[0], np.float32), first.name))
    for i, tensor in enumerate(biases[1:]):
        model.graph.node.insert(i, onnx.helper.make_node("Identity", [first.name], [tensor.name]))
        model.graph.initializer.remove(tensor)
    onnx.save(model, tmp_path / "shared.onnx")
    counts = optimize(tmp_path / "shared.onnx", tmp_path / "fused.onnx")
    assert counts["MultiHeadAttention"] == 2
    np.testing.assert_allclose(
        rows(tmp_path / "fused.onnx", pixels), rows(tmp_path / "shared.onnx", pixels), rtol=1e-3, atol=1e-4
    )
    assert write_int8(tmp_path / "fused.onnx", tmp_path / "int8.onnx", pixels).min_cosine >= 0.99


def test_what_is_reported_is_what_the_file_does(fused: Path, pixels: Pixels, tmp_path: Path) -> None:
    half = write_fp16(fused, tmp_path / "fp16.onnx", pixels)
    byte = write_int8(fused, tmp_path / "int8.onnx", pixels)
    assert half.min_cosine == pytest.approx(least_cosine(tmp_path / "fp16.onnx", fused, pixels), abs=1e-6)
    varied = variations(pixels)
    assert byte.min_cosine == pytest.approx(least_cosine(tmp_path / "int8.onnx", fused, varied), abs=1e-6)
    assert (byte.n_photos, byte.n_images) == (len(pixels), len(varied))
    assert half.min_cosine >= 0.9999
    assert 0.99 <= byte.min_cosine < 1
    assert byte.layers_in_fp32 == []
    # q, k and v in one; out, fc1 and fc2 of each layer; the projector's two.
    assert operators(tmp_path / "int8.onnx")["MatMulIntegerToFloat"] == 2 * 4 + 2


def test_few_photos_are_varied_and_many_are_not(pixels: Pixels) -> None:
    varied = variations(pixels)
    assert len(varied) == 9 * len(pixels)
    assert {(p.shape, p.dtype.name) for p in varied} == {(pixels[0].shape, "float32")}
    assert len({p.tobytes() for p in varied}) == len(varied)
    many = pixels * 20
    assert len(variations(many)) == len(many)


def test_a_limit_that_8_bits_cannot_hold_puts_layers_back_and_names_them(
    fused: Path, pixels: Pixels, tmp_path: Path
) -> None:
    plain = write_int8(fused, tmp_path / "plain.onnx", pixels)
    limit = (1 + plain.min_cosine) / 2
    report = write_int8(fused, tmp_path / "strict.onnx", pixels, min_cosine=limit)
    assert report.layers_in_fp32
    assert report.min_cosine >= limit > plain.min_cosine
    assert least_cosine(tmp_path / "strict.onnx", fused, pixels) >= limit - 1e-6


def test_a_limit_out_of_reach_is_refused(fused: Path, pixels: Pixels, tmp_path: Path) -> None:
    for write in (write_fp16, write_int8):
        with pytest.raises(ParityError, match=r"the limit is 1\.1"):
            write(fused, tmp_path / "x.onnx", pixels, min_cosine=1.1)
        assert not (tmp_path / "x.onnx").exists()


def test_outlier_channels_of_a_norm_are_smoothed(fused: Path, pixels: Pixels, tmp_path: Path) -> None:
    """As in CLIP: a few channels behind a norm are a hundred times the others, their weights small."""

    def spoil(name: str, values: npt.NDArray[np.float32]) -> None:
        if "layers" in name and "layer_norm" in name:
            values[:3] *= 100
        elif values.ndim == 2 and ("_proj" in name or "fc1" in name) and "out_proj" not in name:
            values[:3] /= 100

    model = changed(fused, tmp_path / "outliers.onnx", spoil)
    assert any("layer_norm" in t.name for t in onnx.load(model).graph.initializer)
    report = write_int8(model, tmp_path / "int8.onnx", pixels)
    assert report.min_cosine >= 0.99
    assert len(report.layers_in_fp32) <= 1


def test_a_poisoned_linear_is_found_named_and_kept_in_fp32(fused: Path, pixels: Pixels, tmp_path: Path) -> None:
    """Two channels are always 1 and their weights cancel: nothing in fp32, but they take all steps of 8 bits."""
    poisoned = "encoder.layers.1.mlp.fc1"

    def spoil(name: str, values: npt.NDArray[np.float32]) -> None:
        if "layers.1." in name and "layer_norm2" in name:
            values[:2] = float(name.endswith("bias"))
        elif name == f"{poisoned}.weight":
            values[0], values[1] = 1000, -1000

    model = changed(fused, tmp_path / "poisoned.onnx", spoil)
    report = write_int8(model, tmp_path / "int8.onnx", pixels)
    assert report.layers_in_fp32 == [poisoned]
    assert report.min_cosine >= report.limit
    assert operators(tmp_path / "int8.onnx")["MatMulIntegerToFloat"] == 2 * 4 + 2 - 1


def test_smoothing_saves_what_plain_8_bits_lose(
    fused: Path, pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(name: str, values: npt.NDArray[np.float32]) -> None:
        if "layers" in name and "layer_norm" in name:
            values[:3] *= 100
        elif values.ndim == 2 and ("_proj" in name or "fc1" in name) and "out_proj" not in name:
            values[:3] /= 100

    model = changed(fused, tmp_path / "outliers.onnx", spoil)
    smooth = write_int8(model, tmp_path / "smooth.onnx", pixels, min_cosine=0.5)
    monkeypatch.setattr(vision_int8, "ALPHAS", ())
    plain = write_int8(model, tmp_path / "plain.onnx", pixels, min_cosine=0.5)
    assert smooth.layers_in_fp32 == plain.layers_in_fp32 == []
    assert 1 - smooth.min_cosine < 0.2 * (1 - plain.min_cosine)


def test_no_sum_of_two_products_leaves_16_bits(fused: Path, pixels: Pixels, tmp_path: Path) -> None:
    """Processors with AVX2 and no VNNI add two products u8*s8 in 16 bits and saturate."""
    write_int8(fused, tmp_path / "int8.onnx", pixels)
    weights = [t for t in onnx.load(tmp_path / "int8.onnx").graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert len(weights) == 2 * 4 + 2
    for tensor in weights:
        assert 60 <= int(np.abs(numpy_helper.to_array(tensor).astype(np.int32)).max()) <= (2**15 - 1) / (2 * 255)


def test_values_beyond_half_precision_stay_in_fp32(fused: Path, pixels: Pixels, tmp_path: Path) -> None:
    def spoil(name: str, values: npt.NDArray[np.float32]) -> None:
        if name.endswith("pre_layrnorm.weight"):
            values *= 1e5

    model = changed(fused, tmp_path / "large.onnx", spoil)
    report = write_fp16(model, tmp_path / "fp16.onnx", pixels)
    assert report.largest > 65504
    assert report.nodes_in_fp32
    assert np.isfinite(rows(tmp_path / "fp16.onnx", pixels)).all()
