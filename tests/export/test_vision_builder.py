"""The graph written without PyTorch is the graph that PyTorch's exporter writes, by names, by fusions, by values."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import numpy as np
import onnx
import onnxruntime
import tiny_llava
from aesedge_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from aesedge_export.vision.vision_builder import VisionShape, write_from_tensors
from aesedge_export.vision.vision_graph import write_fp32

from aesedge.errors import CheckpointError
from aesedge.vision.tower import INPUT, OUTPUT, VisionTower

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny"))


def shape_of(checkpoint: Checkpoint) -> VisionShape:
    vision = checkpoint.architecture.vision
    return VisionShape(
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        hidden=vision.hidden_size,
        n_heads=vision.num_attention_heads,
        n_layers=checkpoint.architecture.n_tower_layers,
        intermediate=vision.intermediate_size,
        n_embd=checkpoint.architecture.text.hidden_size,
        layer_norm_eps=vision.layer_norm_eps,
        hidden_act=vision.hidden_act,
    )


def tensor_of(checkpoint: Checkpoint, name: str) -> np.ndarray:
    return np.asarray(checkpoint.tensor(name).float().numpy())


@pytest.fixture(scope="module")
def graphs(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What the builder and what optimum write."""
    folder = tmp_path_factory.mktemp("graphs")
    write_fp32(checkpoint, folder / "exported.onnx")
    facts = {"checkpoint": checkpoint.folder.name}
    built = folder / "built.onnx"
    write_from_tensors(shape_of(checkpoint), lambda name: tensor_of(checkpoint, name), built, facts=facts)
    return built, folder / "exported.onnx"


def test_outputs_are_equal(graphs: tuple[Path, Path]) -> None:
    side = tiny_llava.IMAGE_SIZE
    for seed in range(3):
        pixels = np.random.default_rng(seed).normal(size=(1, 3, side, side)).astype(np.float32)
        built, exported = (VisionTower(path, n_threads=1).encode(pixels) for path in graphs)
        assert np.abs(built - exported).max() <= 1e-6 * np.abs(exported).max()


def test_a_batch_is_its_images_one_by_one(graphs: tuple[Path, Path]) -> None:
    side = tiny_llava.IMAGE_SIZE
    pixels = np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)
    session = onnxruntime.InferenceSession(graphs[0], providers=["CPUExecutionProvider"])
    together = session.run([OUTPUT], {INPUT: pixels})[0]
    apart = np.concatenate([session.run([OUTPUT], {INPUT: pixels[i : i + 1]})[0] for i in range(3)])
    assert together.shape == (3, tiny_llava.N_IMAGE_TOKENS, tiny_llava.N_EMBD)
    assert np.abs(together - apart).max() <= 1e-5 * np.abs(apart).max()


def test_what_a_reader_sees_is_equal(graphs: tuple[Path, Path]) -> None:
    built, exported = (onnx.load(path) for path in graphs)
    onnx.checker.check_model(built, full_check=True)
    assert built.graph.input == exported.graph.input
    assert built.graph.output == exported.graph.output
    assert [(o.domain, o.version) for o in built.opset_import] == [(o.domain, o.version) for o in exported.opset_import]
    assert built.ir_version == exported.ir_version
    assert built.metadata_props == exported.metadata_props


def test_nodes_with_weights_have_the_exporter_s_names(graphs: tuple[Path, Path]) -> None:
    built, exported = (onnx.load(path).graph for path in graphs)
    kinds = {"MatMul", "Conv", "LayerNormalization", "Softmax"}
    names = [{node.name for node in graph.node if node.op_type in kinds} for graph in (built, exported)]
    assert names[0] == names[1]


def test_onnx_runtime_fuses_both_alike(graphs: tuple[Path, Path], tmp_path: Path) -> None:
    counts = []
    for path in graphs:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(tmp_path / path.name)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        counts.append(Counter(node.op_type for node in onnx.load(tmp_path / path.name).graph.node))
    work = ("MatMul", "FusedMatMul", "LayerNormalization", "Softmax", "QuickGelu", "BiasGelu", "Conv", "Add")
    assert [counts[0][kind] for kind in work] == [counts[1][kind] for kind in work]
    assert counts[0]["QuickGelu"] == shape_of_tiny_layers()
    assert sum(counts[0].values()) <= sum(counts[1].values())


def shape_of_tiny_layers() -> int:
    return int(tiny_llava.VISION["num_hidden_layers"]) - 1  # the feature layer -2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a[..., :-1], "the tower has float32"),
        (lambda a: a.astype(np.float64), "is float64"),
        (lambda a: np.where(a == a.max(), np.nan, a), "not finite"),
    ],
)
def test_a_wrong_tensor_is_named(checkpoint: Checkpoint, tmp_path: Path, spoil: object, message: str) -> None:
    bad = "vision_tower.encoder.layers.1.mlp.fc1.weight"

    def tensor(name: str) -> np.ndarray:
        array = tensor_of(checkpoint, name)
        return spoil(array) if name == bad else array  # type: ignore[operator]

    with pytest.raises(CheckpointError, match=message) as caught:
        write_from_tensors(shape_of(checkpoint), tensor, tmp_path / "a.onnx", facts={})
    assert bad in str(caught.value)


def test_a_tower_beyond_one_file_is_refused(tmp_path: Path) -> None:
    huge = VisionShape(
        image_size=336, patch_size=14, hidden=4096, n_heads=16, n_layers=40, intermediate=16384, n_embd=4096
    )
    with pytest.raises(CheckpointError, match=r"holds 2\.15 GB"):
        write_from_tensors(huge, lambda _name: np.zeros(1, np.float32), tmp_path / "a.onnx", facts={})
    assert not list(tmp_path.iterdir())
