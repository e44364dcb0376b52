"""Predictions follow their formula, and small models tell what a type costs within the time there is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aesedge_export.random_weights import type_costs
from aesedge_export.random_weights.probe import ProbeWriter
from aesedge_export.random_weights.shapes import ModelShape
from aesedge_export.random_weights.type_costs import ProbeMaker, TypeCost, measure_types, predict_types

from aesedge.bench.predict import Measured, budgets_of, predict_budgets
from aesedge.config.plan import Plan
from aesedge.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEASURED = Measured(
    gguf="Q4_K_M",
    vision="int8",
    n_image_tokens=576,
    decode_image_s=0.01,
    preprocess_s=0.02,
    vision_s=0.8,
    prefill_per_s=32.0,
    decode_per_s=8.0,
    n_question=48,
    n_critique=16,
    n_gen=150,
    n_label_steps=1,
)
PLAN = Plan(gguf="q4_k_m", vision="int8", n_image_tokens=24, device="cpu", repack=False)


def test_the_measured_setting_comes_out_as_it_went_in() -> None:
    (found,) = predict_types(MEASURED, [TypeCost("q4_k_m", 1.0, 1.0, 0, repack=False)])
    assert found.score_s == pytest.approx(0.83 + 624 / 32 + 1 / 8)
    assert found.critique_s == pytest.approx(found.score_s + 16 / 32 + 150 / 8)
    assert (found.gguf, found.vision, found.n_image_tokens, found.n_gen) == ("q4_k_m", "int8", 576, 150)


def test_another_type_is_as_many_times_slower() -> None:
    (found,) = predict_types(MEASURED, [TypeCost("q8_0", 2.0, 1.5, 0, repack=True)])
    assert found.score_s == pytest.approx(0.83 + 624 / 16 + 1.5 / 8)
    assert found.critique_s == pytest.approx(found.score_s + 16 / 16 + 150 * 1.5 / 8)
    assert "prefill takes 2.00 and decode 1.50 times as long" in found.basis
    assert "repacked" in found.basis


def test_fewer_image_tokens_save_their_prefill() -> None:
    found = predict_budgets(MEASURED, [576, 144, 64])
    assert [p.n_image_tokens for p in found] == [144, 64]  # 576 was measured
    assert found[0].score_s == pytest.approx(0.83 + 192 / 32 + 1 / 8)
    assert "576 image tokens" in found[0].basis


def test_budgets_are_those_that_a_bundle_can_make() -> None:
    assert budgets_of(16, 576) == [576, 432, 288, 144, 64]
    assert budgets_of(196, 196) == [196]


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[ProbeMaker]:
    shape = ModelShape("small", n_embd=256, n_ff=512, n_head=4, n_head_kv=4, n_layer=6, n_vocab=4096, n_ctx=1024)
    with ThreadPoolExecutor(1) as pool:
        yield ProbeMaker(PLAN, ProbeWriter(shape), tmp_path, pool.submit)


def test_types_are_timed_and_leave_no_file(maker: ProbeMaker) -> None:
    shares: list[float] = []
    found = measure_types(maker, types=["Q8_0", "q4_k_m", "q2_k"], seconds=60, progress=shares.append)
    assert [cost.gguf for cost in found.costs] == ["q8_0", "q2_k"]
    assert not found.left_out
    for cost in found.costs:
        assert 0.01 < cost.prefill < 100
        assert 0.01 < cost.decode < 100
    more, fewer = (cost.bytes_per_token for cost in found.costs)
    assert more > 2 * fewer
    assert shares == [0.5, 1.0]
    assert not list(maker.folder.iterdir())


def test_decode_is_scaled_by_what_the_large_model_reads(maker: ProbeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def turn(_probe: object, _n: int = 0) -> object:
        return type_costs._Took(prefill=500, decode=250)

    monkeypatch.setattr(type_costs._Probe, "turn", turn)
    own = {}

    def write(kind: str, path: Path) -> int:
        n_bytes = maker.write_probe(kind, path)
        own[kind] = sum(w.n_bytes for w in type_costs.read_weights(path) if not w.is_input)
        return {"q4_k_m": 1000, "q8_0": 3000}.get(kind, n_bytes)

    (cost,) = measure_types(replace(maker, write_probe=write), types=["q8_0"], seconds=60).costs
    assert cost.prefill == 1
    assert cost.decode == pytest.approx(3 * own["q4_k_m"] / own["q8_0"])
    assert cost.bytes_per_token == 3000


def test_without_time_it_says_which_are_left_out(maker: ProbeMaker) -> None:
    def never(_kind: str, _path: Path) -> int:
        raise AssertionError

    found = measure_types(replace(maker, write_probe=never), types=["q8_0", "q2_k"], seconds=0.0)
    assert not found.costs
    assert found.left_out == dict.fromkeys(("q8_0", "q2_k"), "there was no time for it")
    found = measure_types(maker, types=["q8_0", "q2_k", "q6_k"], seconds=1e-9)
    assert found.left_out.keys() == {"q8_0", "q2_k", "q6_k"} - {cost.gguf for cost in found.costs}


def test_a_type_without_room_is_left_out_and_the_others_go_on(maker: ProbeMaker) -> None:
    def write(kind: str, path: Path) -> int:
        if kind == "q8_0":
            raise BundleError("no room for it")
        return maker.write_probe(kind, path)

    found = measure_types(replace(maker, write_probe=write), types=["q8_0", "q2_k"], seconds=60)
    assert found.left_out == {"q8_0": "no room for it"}
    assert [cost.gguf for cost in found.costs] == ["q2_k"]
