"""The search for the fastest settings: its laws, on speeds that are given."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tuning_stand import BIG, HARDWARE, START, Stand, speeds

from aesedge.errors import ModelLoadError
from aesedge.tuning.candidates import (
    Candidate,
    vision_candidates,
)
from aesedge.tuning.comparison import (
    LEAST_PAIRS,
    LEAST_ROWS,
    SCORE_TOLERANCE,
    Samples,
    TimedStep,
    drift,
    is_tolerable,
    language_round,
    rows_of,
)
from aesedge.tuning.search import Search
from aesedge.tuning.tuner import settled

if TYPE_CHECKING:
    from aesedge.config.plan import Settings
    from aesedge.tuning.comparison import Phase

BOTH: frozenset[Phase] = frozenset(("prefill", "decode"))
REPACK = Candidate("weight repacking", {"repack": True}, BOTH)
THREADS = Candidate("threads, decode", {"threads": 1}, frozenset(("decode",)))
VISION = Candidate("vision precision", {"vision": "int8"}, frozenset(("vision",)))
FLASH = Candidate("flash attention", {"flash_attention": False}, BOTH, grows=True)
N_UBATCH = Candidate("n_ubatch", {"n_ubatch": 128}, frozenset(("prefill",)), whole_batches=True)


def faster_if(**wanted: object) -> Any:
    """Speeds of which those named, as ``field=(value, phase, factor)``, are multiplied."""

    def unit_s(settings: Settings, phase: Phase) -> float:
        seconds = speeds()[phase]
        for field, (value, of, factor) in wanted.items():  # type: ignore[misc]
            if getattr(settings, field) == value and phase in of:
                seconds *= factor
        return seconds

    return unit_s


def searched(stand: Stand, *changes: Candidate, seconds: float = 110.0) -> Search:
    search = Search(stand, START, deadline=seconds, seconds=seconds, clock=lambda: stand.now)
    search.run(changes)
    return search


def chosen(search: Search, field: str) -> dict[str, Any]:
    return {purpose: getattr(standing.settings, field) for purpose, standing in search.best.items()}


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.8, "chosen"), (0.98, "no faster"), (1.0, "no faster"), (1.3, "slower"), (20.0, "slower")]
)
def test_a_variant_is_chosen_where_it_is_faster(factor: float, verdict: str) -> None:
    search = searched(Stand(faster_if(repack=(True, BOTH, factor))), REPACK)
    assert chosen(search, "repack") == dict.fromkeys(("score", "critique"), verdict == "chosen")
    assert search.trials[0]["verdict"] == dict.fromkeys(("score", "critique"), verdict)
    assert search.trials[0]["ratio"]["score"] == pytest.approx(factor)


def test_scores_and_critiques_part_where_their_work_differs() -> None:
    # Twice as fast at decoding, a tenth slower at prefill: a score decodes nothing.
    unit_s = faster_if(repack=(True, {"decode"}, 0.5), flash_attention=(False, BOTH, 0.8))
    stand = Stand(lambda s, p: unit_s(s, p) * (1.1 if s.repack and p == "prefill" else 1.0))
    search = searched(stand, REPACK, FLASH, seconds=1000)
    assert chosen(search, "repack") == {"score": False, "critique": True}
    assert [t["purposes"] for t in search.trials] == [["score", "critique"], ["score"], ["critique"]]
    assert chosen(search, "flash_attention") == {"score": False, "critique": False}


def test_scores_are_no_matter_of_decoding() -> None:
    search = searched(Stand(faster_if(threads=(1, {"decode"}, 0.5))), THREADS)
    assert chosen(search, "threads") == {"score": 2, "critique": 1}
    assert search.trials[0]["purposes"] == ["critique"]


def test_noise_hides_small_gains_and_no_large_ones() -> None:
    rng = random.Random(0)
    small = Stand(faster_if(repack=(True, BOTH, 0.95)), weather=lambda: rng.uniform(0.6, 1.4))
    assert chosen(searched(small, REPACK, seconds=1000), "repack") == {"score": False, "critique": False}
    large = Stand(faster_if(repack=(True, BOTH, 0.4)), weather=lambda: rng.uniform(0.8, 1.2))
    assert chosen(searched(large, REPACK, seconds=1000), "repack") == {"score": True, "critique": True}


def test_slow_weather_meets_both_sides() -> None:
    hours = itertools.count()
    stand = Stand(faster_if(repack=(True, BOTH, 0.85)), weather=lambda: 1 + next(hours) / 20)
    assert chosen(searched(stand, REPACK, seconds=1000), "repack") == {"score": True, "critique": True}


def test_sides_take_turns_step_by_step() -> None:
    stand = Stand(faster_if())
    searched(stand, REPACK)
    steps = [step for _, step in stand.log]
    assert steps[::2] == steps[1::2]
    pairs = zip(stand.log[::2], stand.log[1::2], strict=True)
    firsts = [first[0] for first, second in pairs if first[0] != second[0]]
    assert len(firsts) == len(steps) // 2
    assert len(set(firsts)) == 2  # now the one first and now the other


@pytest.mark.parametrize("points", [1.2 * SCORE_TOLERANCE, float("nan")])
def test_scores_that_move_too_far_are_refused(points: float) -> None:
    moved = Stand(faster_if(repack=(True, BOTH, 0.5)), score=lambda s: 5 + (points if s.repack else 0))
    search = searched(moved, REPACK)
    assert chosen(search, "repack") == {"score": False, "critique": False}
    assert search.trials[0]["drift"] == pytest.approx(points, nan_ok=True)
    assert "refused" in search.trials[0]["verdict"]["score"]
    assert not is_tolerable(drift([(5.0, 5.01), (5.0, 5 + points), (5.0, 5.0)]) or 0.0)


def test_small_drifts_add_up_to_a_large_one() -> None:
    unit_s = faster_if(repack=(True, BOTH, 0.5), flash_attention=(False, BOTH, 0.5))
    step = 0.6 * SCORE_TOLERANCE
    stand = Stand(unit_s, score=lambda s: 5 + step * s.repack + step * (not s.flash_attention))
    search = searched(stand, REPACK, FLASH, seconds=1000)
    assert chosen(search, "repack") == {"score": True, "critique": True}
    assert chosen(search, "flash_attention") == {"score": True, "critique": True}
    assert search.trials[1]["drift"] == pytest.approx(step)


@pytest.mark.parametrize(("moved", "taken"), [(0.0, "int8"), (0.5, "fp32")])
def test_vision_precision_is_taken_only_if_scores_stay(moved: float, taken: str) -> None:
    stand = Stand(faster_if(vision=("int8", {"vision"}, 0.3)), score=lambda s: 5 + moved * (s.vision == "int8"))
    search = searched(stand, VISION)
    assert chosen(search, "vision") == {"score": taken, "critique": taken}
    assert search.trials[0]["drift"] == pytest.approx(moved)


def test_what_cannot_be_proven_in_time_is_not_chosen() -> None:
    # Towers are fast, but reading a score would take minutes.
    slow = faster_if(vision=("int8", {"vision"}, 0.3), repack=(False, {"prefill"}, 100.0))
    search = searched(Stand(slow), VISION)
    assert chosen(search, "vision") == {"score": "fp32", "critique": "fp32"}
    assert "no time" in search.trials[0]["verdict"]["score"]
    alike = searched(Stand(slow, sees_alike=True), VISION)  # nothing needs to be read then
    assert chosen(alike, "vision") == {"score": "int8", "critique": "int8"}


ALL = (VISION, REPACK, THREADS, FLASH, N_UBATCH)


@pytest.mark.parametrize("seconds", [1.0, 15.0, 40.0, 110.0, 400.0])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 8.0])
def test_time_is_kept(seconds: float, factor: float) -> None:
    stand = Stand(faster_if(repack=(True, BOTH, factor), threads=(1, BOTH, factor)))
    search = searched(stand, *ALL, seconds=seconds)
    one_turn = LEAST_ROWS * speeds()["prefill"] * (1 + factor) + 2 * stand.opening
    assert stand.now <= seconds + one_turn
    for trial in search.trials:
        assert trial.get("skipped") or trial["verdict"]


def test_what_there_is_no_time_for_is_said() -> None:
    search = searched(Stand(faster_if()), REPACK, N_UBATCH)
    whole_image = next(t for t in search.trials if t["change"] == "n_ubatch")
    assert "no time" in whole_image["skipped"]
    assert "phases" not in whole_image
    assert searched(Stand(faster_if()), N_UBATCH, seconds=1000).trials[0]["verdict"]["score"] == "no faster"


def test_valuable_duels_fit_a_large_model_on_two_cores() -> None:
    search = searched(Stand(faster_if(repack=(True, {"prefill"}, 1.35)), opening=4.0), REPACK, THREADS, FLASH)
    assert [t["change"] for t in search.trials if not t.get("skipped")] == [c.name for c in (REPACK, THREADS, FLASH)]


def test_without_room_for_both_one_comes_after_the_other() -> None:
    stand = Stand(faster_if(repack=(True, BOTH, 0.8)), both=False)
    search = searched(stand, REPACK)
    assert chosen(search, "repack") == {"score": True, "critique": True}
    assert not search.trials[0]["side_by_side"]
    slightly = Stand(faster_if(repack=(True, BOTH, 0.93)), both=False)  # what else the machine did is in that
    assert chosen(searched(slightly, REPACK), "repack") == {"score": False, "critique": False}


def test_what_does_not_fit_or_fails_is_left_out() -> None:
    small = searched(Stand(faster_if(repack=(True, BOTH, 0.5)), room=lambda s: not s.repack), REPACK)
    assert small.trials[0]["skipped"] == "no room in memory"

    class Refusing(Stand):
        def open(self, part: str, wanted: Any) -> Any:
            if any(s.repack for s in wanted):
                raise ModelLoadError("no such layout")
            return super().open(part, wanted)

    search = searched(Refusing(faster_if(repack=(True, BOTH, 0.5))), REPACK, THREADS)
    assert "no such layout" in search.trials[0]["skipped"]
    assert not search.trials[1].get("skipped")
    assert chosen(search, "repack") == {"score": False, "critique": False}


def test_a_photo_takes_what_its_parts_take() -> None:
    search = searched(Stand(faster_if()), REPACK)
    prefill = 0.8 + (BIG.n_image + BIG.n_question) * 0.035
    assert search.expected_s("score") == pytest.approx(prefill)
    assert search.expected_s("critique") == pytest.approx(prefill + 150 * 0.1)


@pytest.mark.parametrize("n_image", [16, 64, 100, 196, 576])
@pytest.mark.parametrize("row_s", [1e-5, 0.01, 0.035, 0.5])
@pytest.mark.parametrize("seconds", [0.1, 5.0, 30.0])
def test_pieces_of_an_image_are_as_many_rows_as_flash_attention_wants(
    n_image: int, row_s: float, seconds: float
) -> None:
    steps = language_round(n_image, {"prefill": row_s, "decode": 0.1}, seconds, decodes=False)
    assert rows_of(steps) <= n_image
    assert all(step.n >= min(LEAST_ROWS, n_image) for step in steps)
    decoding = language_round(n_image, {"prefill": row_s, "decode": 0.1}, seconds, decodes=True)
    assert [step.phase for step in decoding[-5:]] == ["prefill", *["decode"] * 4]


def turns(*pairs: tuple[float, float]) -> Samples:
    samples = Samples()
    for base, variant in pairs:
        samples.add(TimedStep("prefill", 64), base, variant)
    return samples


@pytest.mark.parametrize(
    ("pairs", "ratio", "wins"),
    [
        ([(2.0, 0.9), (1.0, 0.9), (1.0, 0.9)], 0.9, False),  # another program ran during the first turn
        ([(2.0, 0.9), *[(1.0, 0.9)] * 5], 0.9, True),
        ([(2.0, 1.0)] * (LEAST_PAIRS - 1), 0.5, False),
        ([(2.0, 1.0)] * LEAST_PAIRS, 0.5, True),
    ],
)
def test_few_turns_must_agree_and_two_are_not_enough(
    pairs: list[tuple[float, float]], ratio: float, wins: bool
) -> None:
    verdict = turns(*pairs).verdict({"prefill": 100})
    assert verdict is not None
    assert verdict.ratio == pytest.approx(ratio)
    assert verdict.wins() == wins
    assert turns(*pairs).verdict({"prefill": 100, "decode": 150}) is turns().verdict({"prefill": 100}) is None


def test_other_providers_of_the_vision_graph_are_tried() -> None:
    tried = vision_candidates(START, ["fp32"], "CPUExecutionProvider", HARDWARE, ["cpu", "metal"])
    assert [change.values for change in tried if "vision_device" in change.values] == [{"vision_device": "metal"}]
    assert not vision_candidates(START, ["fp32"], "CUDAExecutionProvider", HARDWARE, ["cuda"])
    metal = Candidate("vision provider", {"vision_device": "metal"}, frozenset(("vision",)))
    search = searched(Stand(faster_if(vision_device=("metal", {"vision"}, 0.3))), metal)
    assert chosen(search, "vision_device") == {"score": "metal", "critique": "metal"}


def test_what_was_not_measured_is_the_default_of_the_purpose() -> None:
    default = replace(START, flash_attention=False, threads=7)
    best = replace(START, n_ubatch=128)
    assert settled(best, START, default, {"n_ubatch"}) == replace(default, n_ubatch=128)
    tried = {"n_ubatch", "flash_attention", "threads"}
    assert settled(best, START, default, tried) == best  # refused, or slower: the default's values lost
    small = replace(START, kv_type="q8_0", flash_attention=True)
    assert settled(small, small, replace(small, flash_attention=False), {"kv_type"}) == small
