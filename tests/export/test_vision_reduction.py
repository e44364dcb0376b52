"""Reductions of image tokens against numpy: every method, every kind of graph and precision, any number of tokens."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra [convert]")

import onnx
import onnxruntime
from aesedge_export.plan import image_token_range
from aesedge_export.vision.onnx_graph import Graph
from aesedge_export.vision.reduction import BEST, METHODS, NONE, OFFERED, add_reduction, checked_method, write_reduced
from aesedge_export.vision.reduction_attention import hilbert_curve
from aesedge_export.vision.reduction_cells import best_bands, partition
from aesedge_export.vision.vision_builder import VisionShape, write_from_tensors
from aesedge_export.vision.vision_files import vision_files
from aesedge_export.vision.vision_precision import optimize, write_fp16, write_int8
from PIL import Image
from reduction_in_numpy import EXPECTED, Seen, best_cells, seen

from aesedge.bundle.manifest import ImageTokens
from aesedge.errors import ParityError, UsageError
from aesedge.image.image_spec import ImageSpec
from aesedge.vision.tower import INPUT, N_INPUT, OUTPUT, VisionTower

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

SIDE, PATCH, WIDTH, HEADS, LAYERS, N_EMBD = 5, 14, 64, 4, 2, 48
N_ROWS = SIDE**2
NUMBERS = (1, 2, 3, 6, 7, 13, 16, 24, 25)
ALL_ROWS = "/reduction/all_rows"
SHAPE = VisionShape(
    image_size=SIDE * PATCH,
    patch_size=PATCH,
    hidden=WIDTH,
    n_heads=HEADS,
    n_layers=LAYERS,
    intermediate=96,
    n_embd=N_EMBD,
)
KINDS = {
    "class first": {},
    "class last": {"class_last": True},
    "last norm": {"post_norm": True, "hidden_act": "gelu", "patch_bias": True, "projector_bias": False},
}


# Graphs.


def write_tiny(path: Path, **shape: object) -> Path:
    """Write a small graph of random weights and fuse it."""
    wanted = VisionShape(**{**SHAPE.__dict__, **shape})
    random = np.random.default_rng(3)
    tensors = {}
    for name, of_one in wanted.tensor_shapes().items():
        center = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        scale = 0.3 if len(of_one) == 1 else 1.5 * float(np.prod(of_one[1:])) ** -0.5
        tensors[name] = random.normal(center, scale, of_one).astype(np.float32)
    write_from_tensors(wanted, tensors.__getitem__, path.with_suffix(".raw"), facts={"checkpoint": "tiny"})
    optimize(path.with_suffix(".raw"), path)
    return path


@pytest.fixture(scope="module")
def plains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("plain")
    return {kind: write_tiny(folder / f"{kind}.onnx", **shape) for kind, shape in KINDS.items()}


@pytest.fixture(scope="module")
def plain(plains: dict[str, Path]) -> Path:
    return plains["class first"]


def pixels_of(n: int, seed: int = 0, side: int = SIDE * PATCH) -> Floats:
    return np.random.default_rng(seed).normal(size=(n, 3, side, side)).astype(np.float32)


PHOTOS = [pixels_of(1), pixels_of(1, seed=1)]
WRITE = {"fp16": write_fp16, "int8": write_int8}


@pytest.fixture(scope="module")
def precisions(plain: Path) -> dict[str, Path]:
    paths = {precision: plain.with_name(f"{precision}.onnx") for precision in WRITE}
    for precision, path in paths.items():
        WRITE[precision](plain, path, PHOTOS)
    return paths


def rows_of(path: Path, pixels: Floats, n: int | None = None) -> Floats:
    with VisionTower(path, device="cpu", n_threads=1) as tower:
        return tower.encode_batch(pixels, n)


def look_inside(path: Path, pixels: Floats, numbers: tuple[int, ...]) -> tuple[list[Seen], dict[int, Floats]]:
    """Return what a graph that reduces saw in each image, and the rows that it gave the projector, by their number."""
    model = onnx.load(path)
    nodes = model.graph.node
    attention = [node for node in nodes if node.op_type == "MultiHeadAttention"][-1]
    reduced = [node for node in nodes if node.name.startswith("/reduction/")][-1].output[0]
    taps = [ALL_ROWS, attention.input[0], attention.input[1], reduced]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in taps)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given, images = {}, []
    for n in numbers:
        found = session.run(taps, {INPUT: pixels, N_INPUT: np.array([n], np.int64)})
        rows, query, key, given[n] = (values.astype(np.float32) for values in found)
        concat = next(node for node in nodes if node.op_type == "Concat" and "Transpose" in "".join(node.input))
        class_at = rows.shape[1] if "Transpose" in concat.input[0] else 0
        n_heads = next(a.i for a in attention.attribute if a.name == "num_heads")
        images = [seen(*of_one, class_at, n_heads) for of_one in zip(rows, query, key, strict=True)]
    return images, given


def operators(path: Path) -> Counter[str]:
    """Count operators, but for those of the reduction."""
    return Counter(n.op_type for n in onnx.load(path).graph.node if not n.name.startswith("/reduction/"))


def check_rows(path: Path, method: str, pixels: Floats, numbers: tuple[int, ...], tolerance: float) -> None:
    images, given = look_inside(path, pixels, numbers)
    for n, rows in given.items():
        for of_one, s in zip(rows, images, strict=True):
            wanted = np.stack(EXPECTED[method](s, n))
            assert of_one.shape == wanted.shape == (n, s.rows.shape[1])
            np.testing.assert_allclose(of_one, wanted, atol=tolerance * np.abs(wanted).max(), err_msg=f"{n} rows")


# The methods.


def test_every_method_has_a_reference() -> None:
    assert set(EXPECTED) == set(METHODS)
    assert set(OFFERED) <= set(METHODS)
    assert {checked_method(method) for method in (NONE, *OFFERED)} == {NONE, *OFFERED}
    assert OFFERED[0] == BEST


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", EXPECTED)
def test_rows_are_those_of_numpy(plains: dict[str, Path], kind: str, method: str, tmp_path: Path) -> None:
    write_reduced(plains[kind], tmp_path / "reduced.onnx", method)
    check_rows(tmp_path / "reduced.onnx", method, pixels_of(3), NUMBERS, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", EXPECTED)
def test_all_image_tokens_are_the_original_bit_for_bit(
    plains: dict[str, Path], kind: str, method: str, tmp_path: Path
) -> None:
    write_reduced(plains[kind], tmp_path / "reduced.onnx", method)
    for pixels in (pixels_of(1), pixels_of(3, seed=1)):
        original = rows_of(plains[kind], pixels)
        assert rows_of(tmp_path / "reduced.onnx", pixels, N_ROWS).tobytes() == original.tobytes()
        assert rows_of(tmp_path / "reduced.onnx", pixels).tobytes() == original.tobytes()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-3), ("int8", 1e-5)])
@pytest.mark.parametrize("method", EXPECTED)
def test_other_precisions_reduce_alike(
    precisions: dict[str, Path], precision: str, tolerance: float, method: str, tmp_path: Path
) -> None:
    write_reduced(precisions[precision], tmp_path / "reduced.onnx", method)
    pixels = pixels_of(2, seed=2)
    original = rows_of(precisions[precision], pixels)
    assert rows_of(tmp_path / "reduced.onnx", pixels, N_ROWS).tobytes() == original.tobytes()
    assert operators(tmp_path / "reduced.onnx") == operators(precisions[precision])
    check_rows(tmp_path / "reduced.onnx", method, pixels, (1, 7, 24), tolerance)


def test_what_is_written_in_other_precisions_is_reduced(
    plain: Path, precisions: dict[str, Path], tmp_path: Path
) -> None:
    for precision, write in WRITE.items():
        report = write(plain, tmp_path / "reduced.onnx", PHOTOS, reduction=BEST)
        assert report.min_cosine >= report.limit
        write_reduced(precisions[precision], tmp_path / "later.onnx", BEST)
        assert (tmp_path / "reduced.onnx").read_bytes() == (tmp_path / "later.onnx").read_bytes()


@pytest.mark.parametrize("method", EXPECTED)
def test_every_attention_stays_fused(plain: Path, method: str, tmp_path: Path) -> None:
    write_reduced(plain, tmp_path / "reduced.onnx", method)
    assert operators(tmp_path / "reduced.onnx") == operators(plain)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(tmp_path / "reduced.onnx", options, providers=["CPUExecutionProvider"])
    loaded = Counter(node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node)
    assert loaded["MultiHeadAttention"] == loaded["QuickGelu"] == LAYERS
    onnx.checker.check_model(onnx.load(tmp_path / "reduced.onnx"))


@pytest.mark.parametrize("method", EXPECTED)
def test_images_of_a_batch_do_not_touch_each_other(plain: Path, method: str, tmp_path: Path) -> None:
    write_reduced(plain, tmp_path / "reduced.onnx", method)
    pixels = pixels_of(3)
    for n in (1, 6, 13):
        together = rows_of(tmp_path / "reduced.onnx", pixels, n)
        apart = np.concatenate([rows_of(tmp_path / "reduced.onnx", pixels[i : i + 1], n) for i in range(3)])
        assert together.shape == (3, n, N_EMBD)
        np.testing.assert_allclose(together, apart, atol=1e-5 * np.abs(apart).max())


def test_equal_patches_stay_in_raster_order(plain: Path, tmp_path: Path) -> None:
    """A photo of one color: attention is nearly the same everywhere, and nothing is lost or not a number."""
    for method in METHODS:
        write_reduced(plain, tmp_path / f"{method}.onnx", method)
        for n in NUMBERS:
            assert np.isfinite(rows_of(tmp_path / f"{method}.onnx", np.zeros_like(pixels_of(1)), n)).all()


# The partition and the curve.


@pytest.mark.parametrize("side", [1, 2, 3, 7, 14, 16, 24])
def test_any_number_of_cells_is_an_exact_partition(side: int) -> None:
    bands = best_bands(side)
    for n in range(1, side**2 + 1):
        cell = partition(side, n, int(bands[n]))
        assert set(cell.tolist()) == set(range(n))
        assert int(np.bincount(cell).max()) <= 4 * -(-(side**2) // n)
        firsts = [int(np.argmax(cell == i)) for i in range(n)]
        assert firsts == sorted(firsts)
    assert partition(side, side**2, int(bands[-1])).tolist() == list(range(side**2))


def test_cells_are_compact_squares_where_there_are_such() -> None:
    for side, n, size in ((14, 49, (2, 2)), (24, 144, (2, 2)), (24, 64, (3, 3)), (24, 36, (4, 4)), (14, 98, (2, 1))):
        found = best_cells(side, n)
        for patches in found:
            down, across = ({p // side for p in patches}, {p % side for p in patches})
            assert (len(down), len(across)) == size
        cell = partition(side, n, int(best_bands(side)[n]))
        assert all(cell[patches].tolist() == [i] * len(patches) for i, patches in enumerate(found))


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 14, 16, 24])
def test_neighbours_on_the_curve_are_neighbours_in_the_image(side: int) -> None:
    curve = hilbert_curve(side).tolist()
    assert sorted(curve) == list(range(side**2))
    steps = [abs(a // side - b // side) + abs(a % side - b % side) for a, b in pairwise(curve)]
    if side & (side - 1) == 0:
        assert set(steps) <= {1}
    else:
        assert np.mean(steps) < 2 if steps else True


# The pass.


def test_the_graph_says_what_it_does(plain: Path, tmp_path: Path) -> None:
    write_reduced(plain, tmp_path / "reduced.onnx", "visionzip")
    with VisionTower(tmp_path / "reduced.onnx", device="cpu") as tower:
        assert (tower.n_image_tokens, tower.n_embd, tower.reduction) == (N_ROWS, N_EMBD, "visionzip")
    with VisionTower(plain, device="cpu") as tower:
        assert (tower.n_image_tokens, tower.reduction) == (N_ROWS, NONE)
    session = onnxruntime.InferenceSession(tmp_path / "reduced.onnx", providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()][1] == (N_INPUT, "tensor(int64)", [1])
    assert [(o.name, o.shape) for o in session.get_outputs()] == [(OUTPUT, ["batch", N_INPUT, N_EMBD])]


def test_a_reduction_is_exchanged_and_taken_away(plain: Path, tmp_path: Path) -> None:
    write_reduced(plain, tmp_path / "mix.onnx", "mix")
    write_reduced(tmp_path / "mix.onnx", tmp_path / "other.onnx", "cls")
    write_reduced(plain, tmp_path / "cls.onnx", "cls")
    pixels = pixels_of(2)
    assert np.array_equal(rows_of(tmp_path / "other.onnx", pixels, 7), rows_of(tmp_path / "cls.onnx", pixels, 7))
    write_reduced(tmp_path / "other.onnx", tmp_path / "none.onnx", NONE)
    found, wanted = onnx.load(tmp_path / "none.onnx"), onnx.load(plain)
    assert found.graph.input == wanted.graph.input
    assert found.graph.output == wanted.graph.output
    assert list(found.graph.node) == list(wanted.graph.node)
    assert found.metadata_props == wanted.metadata_props
    assert len(found.graph.initializer) == len(wanted.graph.initializer)


def test_unknown_methods_and_unknown_graphs_are_refused(plain: Path, tmp_path: Path) -> None:
    for call in (lambda: add_reduction(Graph(plain), "best"), lambda: checked_method("best")):
        with pytest.raises(UsageError, match="unknown reduction 'best'"):
            call()
    with pytest.raises(ParityError, match="cannot be reduced"):  # not fused
        add_reduction(Graph(plain.with_suffix(".raw")), BEST)


def test_a_bundle_with_few_image_tokens_has_no_reduction() -> None:
    assert image_token_range(16, BEST) == ImageTokens(min=16, max=16)
    assert image_token_range(576, NONE) == ImageTokens(min=576, max=576)
    assert image_token_range(576, BEST) == ImageTokens(min=16, max=576, method=BEST)


def test_all_precisions_of_a_bundle_are_reduced(tmp_path: Path) -> None:
    def write_raw(path: Path) -> None:
        write_tiny(tmp_path / "made.onnx")
        (tmp_path / "made.raw").rename(path)

    folder = tmp_path / "bundle"
    folder.mkdir()
    spec = ImageSpec(size=SIDE * PATCH, mean=(0.5,) * 3, std=(0.3,) * 3, pad_color=(0, 0, 0))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8))
    kinds = ["fp32", "fp16", "int8"]
    report = lambda _step, _share: None  # noqa: E731
    with vision_files(write_raw, kinds, folder, photos=[photo], image=spec, reduction=BEST, report=report) as files:
        for path in files.asked.values():
            with VisionTower(path, device="cpu") as tower:
                assert tower.reduction == BEST
                assert tower.encode(pixels_of(1), 6).shape == (6, N_EMBD)
        assert set(files.asked) == set(kinds)
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"vision-{kind}.onnx" for kind in kinds)


# What PyTorch's exporter writes.


@pytest.mark.export
def test_an_exported_checkpoint_takes_fewer_image_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="needs the extra [export]")
    import tiny_llava
    from aesedge_export import export_checkpoint

    monkeypatch.setitem(tiny_llava.VISION, "image_size", 98)
    checkpoint = tiny_llava.write_hf(tmp_path / "tiny")
    out = tmp_path / "bundle"
    manifest = export_checkpoint(checkpoint, out, gguf_types=["q8_0"], vision_types=["fp32"], parity=False)
    assert manifest.image_tokens == ImageTokens(min=16, max=49, method=BEST)
    plain = tmp_path / "plain.onnx"
    write_reduced(out / "vision-fp32.onnx", plain, NONE)
    pixels = pixels_of(2, side=98)
    original = rows_of(plain, pixels)
    for method in METHODS:
        write_reduced(plain, tmp_path / "reduced.onnx", method)
        check_rows(tmp_path / "reduced.onnx", method, pixels, (1, 3, 16, 31, 48), 1e-5)
        assert rows_of(tmp_path / "reduced.onnx", pixels, 49).tobytes() == original.tobytes()
        assert operators(tmp_path / "reduced.onnx") == operators(plain)
