"""The vision tower on real ONNX graphs made in code."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import tiny
from onnx import TensorProto, helper

from aesedge.errors import BundleFormatError, ImageError, InferenceError, ModelLoadError, ProviderError, UsageError
from aesedge.vision.providers import vision_type
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tower(bundle_folder: Path) -> Iterator[VisionTower]:
    with VisionTower(bundle_folder / "vision-fp32.onnx", device="cpu", n_threads=1) as opened:
        yield opened


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 3, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE)).astype(np.float32)


def write_graph(path: Path, nodes: list[onnx.NodeProto], shape_in: list[object], shape_out: list[object]) -> Path:
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape_in)],
        [helper.make_tensor_value_info("image_embeddings", TensorProto.FLOAT, shape_out)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_rows_have_the_shape_of_the_graph_and_depend_on_the_pixels(tower: VisionTower) -> None:
    rows = tower.encode(pixels(0))
    assert rows.shape == (tower.n_image_tokens, tower.n_embd) == (tiny.N_IMAGE_TOKENS, tiny.N_EMBD)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, tower.encode(pixels(0)))
    assert not np.allclose(rows, tower.encode(pixels(1)))


def test_rows_equal_the_graph_worked_out_in_numpy(tower: VisionTower, bundle_folder: Path) -> None:
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(tower.path).graph.initializer}
    n, p = tiny.IMAGE_SIZE // tiny.PATCH_SIZE, tiny.PATCH_SIZE
    patches = pixels()[0].reshape(3, n, p, n, p).transpose(1, 3, 0, 2, 4).reshape(n * n, -1)
    features = np.tanh(patches @ weights["conv"].reshape(len(weights["conv"]), -1).T)
    assert np.allclose(tower.encode(pixels()), features @ weights["projection"], atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [pixels()[:, :, :16], pixels()[0], pixels().astype(np.float64), np.concatenate([pixels()] * 2)]
)
def test_pixels_of_another_shape_or_type_are_refused(tower: VisionTower, wrong: np.ndarray) -> None:
    with pytest.raises(ImageError, match="the tower reads float32"):
        tower.encode(wrong)


def test_graph_without_fixed_shapes_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["pixel_values"], ["image_embeddings"])
    path = write_graph(tmp_path / "free.onnx", [node], ["b", 3, "h", "w"], ["b", 3, "h", "w"])
    with pytest.raises(BundleFormatError, match=r"free\.onnx: a vision graph has the input pixel_values"):
        VisionTower(path, device="cpu")


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x08\x09" * 50])
def test_damaged_graph(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    with pytest.raises((ModelLoadError, BundleFormatError), match=r"damaged\.onnx") as caught:
        VisionTower(path, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.fixture
def reducing(tmp_path: Path) -> Path:
    """A graph whose rows are the first of its pixels' rows."""
    size = tiny.IMAGE_SIZE
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node("Constant", [], ["axis"], value_ints=[1]),
        helper.make_node("Constant", [], ["shape"], value_ints=[0, 3 * size, size]),
        helper.make_node("Reshape", ["pixel_values", "shape"], ["rows"]),
        helper.make_node("Slice", ["rows", "zero", "n_image_tokens", "axis"], ["image_embeddings"]),
    ]
    path = write_graph(tmp_path / "reducing.onnx", nodes, ["batch", 3, size, size], ["batch", "n_image_tokens", size])
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("n_image_tokens", TensorProto.INT64, [1]))
    helper.set_model_props(model, {"n_image_tokens": str(3 * size), "reduction": "first"})
    onnx.save(model, path)
    return path


def test_a_graph_that_reduces_gives_as_many_rows_as_are_asked_for(reducing: Path) -> None:
    most = 3 * tiny.IMAGE_SIZE
    batch = np.concatenate([pixels(0), pixels(1)])
    with VisionTower(reducing, device="cpu", n_threads=1) as tower:
        assert (tower.n_image_tokens, tower.n_embd, tower.reduction) == (most, tiny.IMAGE_SIZE, "first")
        for n in (None, 1, 7, most):
            rows = tower.encode_batch(batch, n)
            assert np.array_equal(rows, batch.reshape(2, most, -1)[:, :n])
            assert np.array_equal(tower.encode(pixels(1), n), rows[1])
        for n in (0, -1, most + 1):
            with pytest.raises(UsageError, match=rf"{n} image tokens are asked for; reducing.onnx makes 1 to {most}"):
                tower.encode(pixels(), n)
        with pytest.raises(ImageError, match="the tower reads float32"):
            tower.encode_batch(batch[:0])


def test_a_graph_that_cannot_reduce_says_so(tower: VisionTower) -> None:
    assert tower.reduction == "none"
    assert np.array_equal(tower.encode(pixels(), tiny.N_IMAGE_TOKENS), tower.encode(pixels()))
    for n in (0, 1, tiny.N_IMAGE_TOKENS + 1):
        with pytest.raises(UsageError, match=f"has {tiny.N_IMAGE_TOKENS} and cannot reduce them"):
            tower.encode(pixels(), n)


def test_a_graph_that_reduces_without_saying_from_how_many_is_refused(reducing: Path) -> None:
    model = onnx.load(reducing)
    del model.metadata_props[:]
    onnx.save(model, reducing)
    with pytest.raises(BundleFormatError, match="a vision graph has the input pixel_values"):
        VisionTower(reducing, device="cpu")


def test_a_closed_tower_says_so(reducing: Path) -> None:
    tower = VisionTower(reducing, device="cpu", n_threads=1)
    tower.close()
    with pytest.raises(UsageError, match="closed"):
        tower.encode_batch(pixels())


def test_failure_while_running_is_an_error_of_ours(tmp_path: Path) -> None:
    size = tiny.IMAGE_SIZE
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[1, 7, 7])
    node = helper.make_node("Reshape", ["pixel_values", "shape"], ["image_embeddings"])
    path = write_graph(tmp_path / "fails.onnx", [shape, node], ["batch", 3, size, size], ["batch", 7, 7])
    with VisionTower(path, device="cpu") as tower, pytest.raises(InferenceError, match=r"fails\.onnx"):
        tower.encode(pixels())


def slow_graph(path: Path, size: int, n_rounds: int) -> Path:
    nodes = [helper.make_node("Identity", ["pixel_values"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(n_rounds)]
    nodes += [
        helper.make_node("Constant", [], ["shape"], value_ints=[0, 3, size * size]),
        helper.make_node("Reshape", [f"x{n_rounds}", "shape"], ["image_embeddings"]),
    ]
    return write_graph(path, nodes, ["batch", 3, size, size], ["batch", 3, size * size])


def test_bound_inputs_and_outputs_give_the_same_rows(tower: VisionTower, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; here the device is the CPU."""
    pixels = np.random.default_rng(3).standard_normal((1, 3, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE), np.float32)
    expected = tower.encode(pixels)
    monkeypatch.setattr(tower, "provider", "CUDAExecutionProvider")
    assert np.array_equal(tower.encode(pixels), expected)


def test_closing_stops_what_runs(tmp_path: Path) -> None:
    size = 64
    tower = VisionTower(slow_graph(tmp_path / "slow.onnx", size, 4000), device="cpu", n_threads=1)
    outcomes: list[Exception] = []

    def encode() -> None:
        try:
            while True:
                tower.encode(np.zeros((1, 3, size, size), np.float32))
        except (InferenceError, UsageError) as error:  # stopped, or closed between two images
            outcomes.append(error)

    threads = [threading.Thread(target=encode) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    tower.close()
    for thread in threads:
        thread.join(timeout=20)
    assert len(outcomes) == 2
    tower.close()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_reaches_python_while_the_graph_runs(tmp_path: Path) -> None:
    """A graph that takes seconds is stopped by the signal, and the tower is gone from the machine's cores."""
    size = 64
    path = slow_graph(tmp_path / "slow.onnx", size, 4000)
    zeros = np.zeros((1, 3, size, size), np.float32)
    with VisionTower(path, device="cpu", n_threads=1) as tower:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (the signal comes in one of the rounds)
            timer.start()
            while True:
                tower.encode(zeros)
        timer.join()
        assert not [t for t in threading.enumerate() if t.name == "aesedge-vision" and t.is_alive()]
        tower.encode(zeros)


ALL_TYPES = ["fp32", "fp16", "int8"]


@pytest.mark.parametrize(
    ("types", "default", "on_cpu", "on_cuda"),
    [
        (ALL_TYPES, "int8", "int8", "fp16"),
        (ALL_TYPES, "fp32", "fp32", "fp16"),
        (ALL_TYPES, "fp16", "fp32", "fp16"),
        (["fp16", "int8"], "fp16", "int8", "fp16"),
        (["fp32", "int8"], "int8", "int8", "fp32"),
        (["int8", "int4"], "int4", "int4", "int4"),
        (["fp16"], "fp16", "fp16", "fp16"),
    ],
)
def test_auto_takes_the_precision_that_the_device_computes(
    types: list[str], default: str, on_cpu: str, on_cuda: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vision_type("auto", types, default, "cpu") == on_cpu
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    for problem in ("_no_cuda", "_warn_no_cuda"):
        monkeypatch.setattr(f"aesedge.vision.providers.{problem}", lambda: "")
    assert vision_type("auto", types, default, "auto") == on_cuda
    assert vision_type("auto", types, default, "cuda") == on_cuda
    assert vision_type("auto", types, default, "cpu") == on_cpu
    assert {vision_type(t, types, default, "cuda") for t in ALL_TYPES} == set(ALL_TYPES)


def test_auto_on_a_device_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert vision_type("auto", ALL_TYPES, "int8", "auto") == "int8"
    with pytest.raises(ProviderError, match="device cuda"):
        vision_type("auto", ALL_TYPES, "int8", "cuda")
