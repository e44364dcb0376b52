"""Laws of pocket's tower: what its filters read, and what may be said of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs the extra [export]")
pytest.importorskip("scipy", reason="needs the extra [export]")

import torch
from aesedge_export.pocket import crops, cutouts, filters, impression, model, photos, scenes
from aesedge_export.pocket.faults import FAULTS, N_MAIN
from aesedge_export.pocket.language import mentioned
from aesedge_export.pocket.scenes import LAYOUT
from aesedge_export.pocket.tower import N_CONSTANT, N_OUT, PLACE_GAIN, coordinates, normalise
from aesedge_export.pocket.train_tower import Truth, build, loss_of, truth_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export
N_FAULTS = len(FAULTS)


def test_filters_have_one_length_and_only_levels_see_a_flat_patch() -> None:
    designed = filters.design()
    assert designed.shape == (filters.N_FILTERS, 3, filters.PATCH, filters.PATCH)
    assert np.allclose((designed**2).sum((1, 2, 3)), 1, atol=1e-5)
    flat = np.abs(designed.sum((2, 3))).max(1)
    assert (flat[: filters.N_LINEAR] > 1).all()
    assert (flat[filters.N_LINEAR :] < 1e-4).all()


def test_steps_of_blocks_are_found_at_their_phase() -> None:
    levels = np.repeat(np.random.default_rng(0).uniform(0, 1, (1, 61)), 8, axis=1)[:, 3:483]
    picture = np.repeat((255 * np.repeat(levels, 480, axis=0))[..., None], 3, axis=2).astype(np.uint8)
    columns = np.stack([plane for _, plane in filters.steps()])[0::2]
    bank = np.stack([np.multiply.outer((1, 1, 1), plane) for plane in columns]).astype(np.float32)
    strength = np.abs(crops.read_patches(picture, bank)).mean(0).reshape(8, 2).mean(1)
    assert strength.argmax() == 5


def test_tower_sees_the_same_in_pixels_and_in_what_was_kept_of_them() -> None:
    designed = filters.design()
    tower = build(designed, 0).eval()
    pixels = np.random.default_rng(1).integers(0, 255, (480, 480, 3), dtype=np.uint8)
    with torch.no_grad():
        seen = tower.features(normalise(torch.from_numpy(pixels[None])))
        kept = tower.features_of_rows(torch.from_numpy(crops.read_patches(pixels, designed))[None])
    assert seen.shape == (1, crops.N_PATCHES, filters.N_FILTERS + 4)
    assert float((seen - kept).abs().max()) < 0.1
    assert tower.judge(kept).shape == (1, crops.N_PATCHES, N_OUT)


def test_patches_that_are_left_out_take_their_places_with_them() -> None:
    tower = build(filters.design(), 0).eval()
    rows = torch.randn(2, crops.N_PATCHES, filters.N_FILTERS)
    order = torch.randperm(crops.N_PATCHES)
    with torch.no_grad():
        whole, _ = tower(rows)
        mixed, _ = tower(rows[:, order], order)
        half, local = tower(rows[:, ::2], torch.arange(0, crops.N_PATCHES, 2))
    assert torch.allclose(whole, mixed, atol=1e-3)
    assert local.shape == (2, crops.N_PATCHES // 2, N_OUT)
    assert half.shape == whole.shape


def test_kept_crops_are_the_same_whoever_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = photos.Photo("p", "p.jpg", "package", "1", "CC0", "me", "0" * 64, "p", "train")
    cells = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(cells).resize((480, 360), Image.Resampling.BICUBIC).save(photos.photo_path(tmp_path, photo))
    (tmp_path / "provenance.json").write_text(json.dumps([asdict(photo)]), "utf-8")
    monkeypatch.setattr(crops, "PER_PART", 1)
    monkeypatch.setattr(crops, "N_SPREAD", 2)
    crops.loud_filters(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        crops.make_part(0, base=tmp_path / name, cache=tmp_path, split="train", seed=0)
    one, two = crops.Crops(tmp_path / "one"), crops.Crops(tmp_path / "two")
    assert len(one) == crops.PER_CROP
    everything = np.arange(len(one))
    assert np.array_equal(one.take(everything), two.take(everything))
    assert np.array_equal(one.labels, two.labels)
    assert (one.labels[:2] == 0).all()
    assert (one.labels[2:].max(1) > 0).all()
    crops.make_part(1, base=tmp_path / "one", cache=tmp_path, split="train", seed=0)
    one.look_again()
    assert len(one) == 2 * crops.PER_CROP


def judged(rng: np.random.Generator, labels: np.ndarray, noise: float) -> np.ndarray:
    """Logits of a head that sees the labels through noise."""
    there = 10 * (labels - 0.3) + noise * rng.standard_normal(labels.shape)
    layout = np.full((len(labels), len(LAYOUT)), -5.0)
    return np.concatenate([4 * labels - 2, there, labels.max(1, keepdims=True), layout], 1)


def silent(limits: np.ndarray) -> np.ndarray:
    """These thresholds of faults, and composition never spoken of."""
    return np.concatenate([limits, np.full(len(LAYOUT), 99.0)])


@pytest.mark.parametrize("noise", [0.1, 2.0, 8.0])
def test_thresholds_keep_false_alarms_within_the_budget(noise: float) -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros((2000, N_FAULTS))
    labels[np.arange(1000), rng.integers(N_FAULTS, size=1000)] = rng.uniform(0.1, 1, 1000)
    logits = judged(rng, labels, noise)
    limits = impression.find_thresholds(logits, labels, logits[:0], false_alarms=0.06)
    seen = impression.impressions(logits, silent(limits))
    assert np.mean([bool(s.faults) for s in seen[1000:]]) <= 0.06
    if noise < 1:
        strong = np.flatnonzero(labels.max(1) > 0.7)
        assert all(FAULTS[int(labels[i].argmax())] in seen[i].faults for i in strong)


def test_a_named_fault_is_worth_mentioning_and_all_are_estimated() -> None:
    logits = np.full((1, N_OUT), -6.0)
    logits[0, N_FAULTS + 2] = 1.0
    (seen,) = impression.impressions(logits, np.zeros(N_FAULTS + len(LAYOUT)))
    assert seen.faults == {FAULTS[2]: impression.MENTIONED}
    assert set(seen.estimate) == set(FAULTS)
    assert impression.known({"tilt": 0.1, "noise": 0.5}).faults == {"noise": 0.5}


def test_an_exaggerated_total_is_made_true() -> None:
    rng = np.random.default_rng(0)
    totals = rng.uniform(0.02, 0.98, 4000)
    exaggerated = 2 * np.log(totals / (1 - totals)) + 0.5 + 0.1 * rng.standard_normal(4000)
    slope, offset = impression.find_scale(exaggerated, totals)
    assert (slope, offset) == pytest.approx((0.5, -0.25), abs=0.02)
    logits = np.zeros((4000, N_OUT))
    logits[:, impression.TOTAL] = exaggerated
    seen = impression.impressions(logits, np.zeros(N_FAULTS + len(LAYOUT)), (slope, offset))
    assert np.abs(np.array([s.total for s in seen]) - totals).max() < 0.06


def test_projector_starts_with_the_name_of_what_the_head_sees() -> None:
    tower = build(filters.design(), 0)
    torch.manual_seed(0)
    features = torch.randn(40, 12, filters.N_FILTERS + 4)
    truth = torch.randn(N_OUT, features.shape[-1])
    logits = (features @ truth.T).mean(1) / 4
    features = features + (logits @ torch.linalg.pinv(truth).T)[:, None]
    reading = model.read_judgement(features, logits)
    llava = model.build_llava(tower, features.reshape(-1, features.shape[-1]), 0)
    words = [[100 + k] for k in range(N_FAULTS + len(LAYOUT))]
    model.prime_projector(llava, reading, torch.zeros(len(words)), words)
    projector, table = llava.model.multi_modal_projector, llava.get_input_embeddings().weight
    others = 4 * N_MAIN + model.N_HEIGHTS
    units = [*range(4 * N_MAIN), *range(others, others + 4 * (N_FAULTS - N_MAIN))]
    steps = torch.tensor(units[::2])  # every other unit; between them stand the strengths
    with torch.no_grad():
        kept = projector.linear_2.weight[:, steps].clone()
        projector.linear_2.weight.zero_()
        projector.linear_2.weight[:, steps] = kept
        back = torch.linalg.pinv(reading[0])
        one, other = (projector(back @ (sign(fault) - reading[1])) for fault in (3, 4))
    near = torch.nn.functional.cosine_similarity(one - other, table[100 : 100 + N_FAULTS])
    assert near.argmax() == 3
    assert near.argmin() == 4


def test_a_projector_that_has_learnt_keeps_its_words() -> None:
    tower = build(filters.design(), 0)
    features = torch.randn(8, 12, filters.N_FILTERS + N_CONSTANT)
    reading = model.read_judgement(features, torch.randn(8, N_OUT))
    llava = model.build_llava(tower, features.reshape(-1, features.shape[-1]), 0)
    projector = llava.model.multi_modal_projector
    before = [layer.weight.clone() for layer in (projector.linear_1, projector.linear_2)]
    words = [[100 + k] for k in range(N_FAULTS + len(LAYOUT))]
    model.prime_projector(llava, reading, torch.zeros(len(words)), words, keep_words=True)
    assert not torch.equal(projector.linear_1.weight, before[0])
    assert torch.equal(projector.linear_2.weight, before[1])


def test_places_are_told_apart_and_symmetric() -> None:
    side = crops.IMAGE_SIZE // filters.PATCH
    x, y, distance, frame = coordinates().reshape(side, side, N_CONSTANT).unbind(-1)
    for places in (x, y, distance, frame):
        assert float(places.mean()) == pytest.approx(0, abs=1e-5)
        assert float(places.std()) == pytest.approx(PLACE_GAIN, rel=0.01)
    assert torch.allclose(x, y.T)
    assert torch.allclose(x, -x.flip(1))
    for places in (distance, frame):
        assert torch.allclose(places, places.flip(0))
        assert torch.allclose(places, places.T)
    assert float(distance[0, 0]) == float(distance.max())
    assert float(frame[0, side // 2]) == float(frame.max())


def test_filters_are_left_out_in_training_only() -> None:
    tower = build(filters.design(), 0)
    rows = torch.randn(2, crops.N_PATCHES, filters.N_FILTERS)
    with torch.no_grad():
        first, second = tower.train()(rows)[0], tower(rows)[0]
        assert not torch.equal(first, second)
        assert torch.equal(tower.eval()(rows)[0], tower(rows)[0])


def sign(fault: int) -> torch.Tensor:
    """Logits of a picture with one fault."""
    logits = torch.full((N_OUT,), -4.0)
    logits[[fault, N_FAULTS + fault]] = 4.0
    return logits


def test_composition_is_said_above_its_thresholds_and_never_as_the_main_fault() -> None:
    logits = np.full((3, N_OUT), -6.0)
    logits[0, impression.FIRST_OF_LAYOUT :] = 1.0
    logits[1, N_FAULTS + 1] = logits[1, impression.FIRST_OF_LAYOUT] = 1.0
    one, two, nothing = impression.impressions(logits, np.zeros(N_FAULTS + len(LAYOUT)))
    assert set(one.faults) == set(scenes.FLAWS)
    assert one.places == scenes.PLACES
    assert mentioned(two.faults) == [FAULTS[1], "cut off"]
    assert nothing.faults == {}
    assert nothing.places == ()


def test_whole_photographs_bound_the_false_alarms_too() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros((2000, N_FAULTS))
    labels[np.arange(1000), rng.integers(N_FAULTS, size=1000)] = rng.uniform(0.1, 1, 1000)
    logits = judged(rng, labels, 2.0)
    whole = judged(rng, np.zeros((200, N_FAULTS)), 2.5)
    limits = impression.find_thresholds(logits, labels, whole, false_alarms=0.03)
    for clean in (logits[1000:], whole):
        assert np.mean([bool(s.faults) for s in impression.impressions(clean, silent(limits))]) <= 0.03


def test_the_faults_of_the_goals_come_first_where_false_alarms_are_rationed() -> None:
    rng = np.random.default_rng(3)
    labels = np.zeros((4000, N_FAULTS))
    labels[np.arange(2000), rng.integers(N_FAULTS, size=2000)] = rng.uniform(0.6, 1, 2000)
    logits = judged(rng, labels, 6.0)  # all are equally hard to see
    limits = impression.find_thresholds(logits, labels, logits[:0], false_alarms=0.05)
    found = [np.mean(logits[labels[:, k] > 0, N_FAULTS + k] > limits[k]) for k in range(N_FAULTS)]
    main, more = np.mean(found[:N_MAIN]), np.mean(found[N_MAIN:])
    assert main > 1.5 * more > 0


def test_what_is_said_of_the_composition_of_ordinary_photographs_stays_rare() -> None:
    rng = np.random.default_rng(0)
    ordinary, scenes_seen = rng.standard_normal((4000, N_OUT)), rng.standard_normal((500, N_OUT))
    layout = rng.integers(2, size=(500, len(LAYOUT))).astype(float)
    scenes_seen[:, impression.FIRST_OF_LAYOUT :] += 4 * layout
    limits = impression.find_layout_thresholds(ordinary, scenes_seen, layout)
    said = (ordinary[:, impression.FIRST_OF_LAYOUT :] > limits).mean(0)
    assert said == pytest.approx(impression.LAYOUT_ALARMS, abs=0.001)


def test_what_the_tower_cannot_tell_apart_is_never_said() -> None:
    rng = np.random.default_rng(0)
    ordinary, guessed = rng.standard_normal((4000, N_OUT)), rng.standard_normal((500, N_OUT)) + 1
    layout = rng.integers(2, size=(500, len(LAYOUT))).astype(float)
    assert (impression.find_layout_thresholds(ordinary, guessed, layout) == impression.NEVER).all()


def test_what_nobody_knows_teaches_nothing() -> None:
    tower = build(filters.design(), 0)
    rows = torch.randn(crops.PER_CROP, crops.N_PATCHES, filters.N_FILTERS)
    labels = torch.zeros(crops.PER_CROP, N_FAULTS)
    nowhere = torch.full((crops.PER_CROP, len(LAYOUT)), torch.nan)
    known = torch.ones_like(labels)
    known[:, 3] = 0
    loss_of(tower, rows, Truth(labels, known, nowhere), torch.arange(crops.N_PATCHES)).backward()
    taught = tower.head.weight.grad.abs().sum(1) > 0
    unknown = {3, N_FAULTS + 3, *range(impression.FIRST_OF_LAYOUT, N_OUT)}
    assert {k for k in range(N_OUT) if not taught[k]} == unknown


def test_kept_scenes_know_their_composition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = photos.Photo("p", "p.jpg", "package", "1", "CC0", "me", "0" * 64, "p", "train")
    (tmp_path / "photos").mkdir()
    (tmp_path / "cutouts").mkdir()
    Image.new("RGB", (480, 360), (90, 120, 150)).save(photos.photo_path(tmp_path, photo))
    subject = Image.new("RGBA", (200, 160), (200, 60, 30, 255))
    subject.save(cutouts.cutout_path(tmp_path, photo))
    for table in ("provenance.json", "cutouts.json"):
        (tmp_path / table).write_text(json.dumps([asdict(photo)]), "utf-8")
    np.save(tmp_path / "filters-0.npy", filters.design())
    monkeypatch.setattr(crops, "PER_PART", 2)
    monkeypatch.setattr(crops, "SCENE_EVERY", 2)
    (tmp_path / "parts").mkdir()
    crops.make_part(0, base=tmp_path / "parts", cache=tmp_path, split="train", seed=0)
    kept = crops.Crops(tmp_path / "parts")
    of_scenes = ~np.isnan(kept.layout).any(1)
    assert not of_scenes[: crops.PER_CROP].any()
    assert of_scenes[crops.PER_CROP : crops.PER_CROP + 2].all()
    assert truth_of(kept, np.arange(len(kept))).labels.isfinite().all()
    assert np.isnan(crops.labels_of({"overexposure": 0.5})[FAULTS.index("clipped highlights")])
