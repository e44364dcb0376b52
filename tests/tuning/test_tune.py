"""The search for the fastest settings: its laws, on speeds that are given, and the command on a real tiny bundle."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import tiny
from cli_runner import START as START_COMMAND
from conftest import open_tiny
from tuning_stand import BIG, START, Stand, speeds

from aesedge.bundle.bundle import open_bundle
from aesedge.cli import main
from aesedge.config.options import Options
from aesedge.config.planning import make_plan
from aesedge.config.profile import load_profile
from aesedge.errors import MemoryFitError, ModelLoadError, UsageError
from aesedge.system.paths import cache_folder
from aesedge.tuning import search as searching
from aesedge.tuning import tune
from aesedge.tuning.candidates import (
    Candidate,
    Conditions,
    is_possible,
    language_candidates,
    most_precise,
    usable,
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
from aesedge.tuning.runners import Runners
from aesedge.tuning.search import Search
from aesedge.tuning.tuner import settled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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


HARDWARE = Conditions(n_logical=16, n_physical=8, has_gpu=False, is_small=False, repacks=True)


def values_of(changes: list[Candidate], field: str) -> list[Any]:
    return [change.values[field] for change in changes if field in change.values]


def test_candidates_are_of_this_hardware() -> None:
    start = replace(START, threads=8, threads_batch=8)
    changes = language_candidates(start, 576, HARDWARE)
    assert values_of(changes, "threads_batch") == values_of(changes, "threads") == [16, 4]
    assert values_of(changes, "repack") == [True]
    assert values_of(changes, "gpu_layers") == []
    assert values_of(changes, "n_ubatch") == [512, 128]
    assert values_of(language_candidates(start, 64, HARDWARE), "n_ubatch") == []  # one batch in any case
    assert values_of(language_candidates(start, 576, HARDWARE._replace(has_gpu=True)), "gpu_layers") == [0]
    assert values_of(language_candidates(start, 576, HARDWARE._replace(repacks=False)), "repack") == []


def test_matrix_kernels_are_compared_where_they_have_something_to_do() -> None:
    here = HARDWARE._replace(has_kernels=True)
    assert values_of(language_candidates(START, 576, here), "kernels") == [False]
    assert values_of(language_candidates(replace(START, kernels=False), 576, here), "kernels") == [True]
    assert values_of(language_candidates(replace(START, repack=True), 576, here), "kernels") == []
    assert values_of(language_candidates(START, 576, HARDWARE), "kernels") == []


def test_two_cores_have_few_candidates() -> None:
    changes = language_candidates(START, 576, HARDWARE._replace(n_logical=2, n_physical=2))
    assert (values_of(changes, "threads_batch"), values_of(changes, "threads")) == ([], [1])


@pytest.mark.parametrize("n_cores", [1, 2, 4, 16])
def test_small_model_never_gets_all_cores(n_cores: int) -> None:
    machine = Conditions(n_cores, n_cores, has_gpu=False, is_small=True, repacks=False)
    start = replace(START, threads=1, threads_batch=1, threads_vision=1)
    changes = [
        *language_candidates(start, 196, machine),
        *vision_candidates(start, ["fp32"], "CPUExecutionProvider", machine),
    ]
    for field in ("threads", "threads_batch", "threads_vision"):
        assert all(n < n_cores for n in values_of(changes, field))


def test_busy_machine_has_its_threads_left_as_they_are() -> None:
    changes = language_candidates(START, 576, HARDWARE._replace(is_busy=True))
    assert {change.name for change in changes} == {"weight repacking", "flash attention", "KV type", "n_ubatch"}
    assert vision_candidates(START, ["fp32"], "CPUExecutionProvider", HARDWARE._replace(is_busy=True)) == []


def test_precisions_are_those_that_the_provider_is_fast_at() -> None:
    types = ["int8", "fp16", "fp32"]
    assert usable(types, "CPUExecutionProvider") == ["int8", "fp32"]
    assert usable(types, "CUDAExecutionProvider") == ["fp16", "fp32"]
    assert usable(["fp16"], "CPUExecutionProvider") == ["fp16"]
    assert most_precise(types) == "fp32"
    assert most_precise(["int8"]) == "int8"


def test_other_providers_of_the_vision_graph_are_tried() -> None:
    tried = vision_candidates(START, ["fp32"], "CPUExecutionProvider", HARDWARE, ["cpu", "metal"])
    assert [change.values for change in tried if "vision_device" in change.values] == [{"vision_device": "metal"}]
    assert not vision_candidates(START, ["fp32"], "CUDAExecutionProvider", HARDWARE, ["cuda"])
    metal = Candidate("vision provider", {"vision_device": "metal"}, frozenset(("vision",)))
    search = searched(Stand(faster_if(vision_device=("metal", {"vision"}, 0.3))), metal)
    assert chosen(search, "vision_device") == {"score": "metal", "critique": "metal"}


def test_8_bit_keys_need_flash_attention() -> None:
    assert not is_possible(replace(START, kv_type="q8_0", flash_attention=False))
    assert is_possible(START)


# The command, on a real bundle.


def test_tune_keeps_what_loads_from_then_on(
    bundle_folder: Path, photo_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = open_bundle(bundle_folder)
    assert main(["info", str(bundle_folder)]) == 0
    assert f"not tuned; 'aesedge tune --bundle {bundle.typed_name}'" in capsys.readouterr().out
    assert main(["tune", str(bundle_folder), "--seconds", "4"]) == 0
    out, err = capsys.readouterr()
    assert "flash attention" in out
    assert "settings: tuned" in out
    assert "Traceback" not in err
    profile = load_profile(bundle.manifest, "F32", "auto")
    assert profile is not None
    assert set(profile.settings) == {"score", "critique"}
    assert "flash attention" in {trial["change"] for trial in profile.trials}
    for trial in profile.trials:
        assert trial.get("skipped") or set(trial["verdict"]) == set(trial["purposes"])
    for purpose, settings in profile.settings.items():
        plan = make_plan(Options(purpose=purpose), bundle)
        assert plan.settings == settings
    with open_tiny(bundle_folder, device="auto") as model, model.look(photo_path) as photo:
        assert 0 <= photo.score().score <= 10
    assert main(["info", str(bundle_folder)]) == 0
    assert "settings: tuned" in capsys.readouterr().out


def test_tune_prints_the_profile_as_json_and_forgets_it(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", "--bundle", str(bundle_folder), "--device", "cpu", "--gguf", "q4_k_m"]
    assert main([*command, "--seconds", "8", "--json"]) == 0  # the file is first tried in a process of its own
    out, _ = capsys.readouterr()
    manifest = open_bundle(bundle_folder).manifest
    kept = load_profile(manifest, "Q4_K_M", "cpu")
    assert kept is not None
    assert json.loads(out) == json.loads(msgspec.json.encode(kept))
    assert load_profile(manifest, "F32", "cpu") is None
    assert main([*command, "--forget"]) == 0
    assert load_profile(manifest, "Q4_K_M", "cpu") is None
    assert main([*command, "--forget", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"bundle": "tiny", "forgotten": False}


def test_variant_that_sees_something_else_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "two")
    other = tiny.write_tower(folder / "vision-int8.onnx", seed=9)
    files = [*open_bundle(folder).manifest.files, tiny.described(other, "vision", "int8")]
    tiny.write_manifest(folder, files)
    bundle = open_bundle(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "MARGIN", -1e9)  # whatever the machine does meanwhile, it counts as faster
        patch.setattr("aesedge.tuning.comparison.Verdict.wins", lambda *_: True)
        profile = tune(bundle, device="cpu", seconds=10)
    trial = next(t for t in profile.trials if t["change"] == "vision precision")
    assert trial["drift"] > SCORE_TOLERANCE
    assert all("refused" in said for said in trial["verdict"].values())
    assert {settings.vision for settings in profile.settings.values()} == {"fp32"}


def test_real_contexts_open_one_after_the_other_where_memory_is_short(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    open_runners = Runners.open

    def counted(runners: Runners, part: Any, wanted: Sequence[Settings]) -> Any:
        opened.append(len(wanted))
        return open_runners(runners, part, wanted)

    monkeypatch.setattr(Runners, "open", counted)
    monkeypatch.setattr(Runners, "together", lambda *_: False)
    profile = tune(open_bundle(bundle_folder), device="cpu", seconds=4)
    measured = [trial for trial in profile.trials if not trial.get("skipped")]
    assert measured
    assert not any(trial["side_by_side"] for trial in measured)
    assert max(opened) == 1


def test_memory_has_room_for_both_caches_and_for_weights_that_lie_otherwise(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(bundle_folder)
    plan = make_plan(Options(device="cpu", threads=1, tuned=False), bundle)
    base = plan.settings
    with Runners(bundle, plan, None, 60) as runners:
        need = runners.estimate(base, runners._n_ctx)
        cache = sum(n for name, n in need.parts.items() if name in {"KV cache", "compute buffers"})
        other_threads = replace(base, threads=2)
        other_weights = replace(base, repack=not base.repack)

        def fit(n_bytes: int) -> list[bool]:
            monkeypatch.setattr(runners, "_limits", runners._limits._replace(ram_bytes=need.needed_bytes + n_bytes))
            return [runners.together("language", base, variant) for variant in (other_threads, other_weights)]

        assert fit(cache - 1) == [False, False]
        assert fit(cache) == [True, False]
        assert fit(cache + need.needed_bytes) == [True, True]


def test_nothing_measured_is_nothing_kept(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(bundle_folder), "--seconds", "1e-9"]) == 2
    assert "--seconds" in capsys.readouterr().err
    assert not (cache_folder() / "profiles").exists()
    with pytest.raises(UsageError, match="above 0"):
        tune(open_bundle(bundle_folder), seconds=float("nan"))


def test_bundle_that_does_not_fit_is_not_loaded(bundle_folder: Path) -> None:
    with pytest.raises(MemoryFitError):
        tune(open_bundle(bundle_folder), memory="10MB")
    assert main(["tune", str(bundle_folder), "--memory", "10MB"]) == 2
    assert main(["tune", "no such bundle"]) == 2


def test_folder_that_cannot_be_written_is_an_error_in_words(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "profiles").write_text("in the way")
    assert main(["tune", str(bundle_folder), "--seconds", "2"]) == 2
    assert "cannot be kept" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of another process is another thing there")
def test_ctrl_c_keeps_nothing_and_says_so(bundle_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_COMMAND, "tune", str(bundle_folder), "--seconds", "100"]
    environment = {**os.environ, "AESEDGE_CACHE": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        _wait_for(tmp_path / "hashes.json")
        time.sleep(1.5)  # past the imports of native libraries, which turn Ctrl-C into an ImportError
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "nothing was kept" in err
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} <= {"hashes.json", "proven"}  # what a load leaves, and no profile


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)


def test_what_was_not_measured_is_the_default_of_the_purpose() -> None:
    default = replace(START, flash_attention=False, threads=7)
    best = replace(START, n_ubatch=128)
    assert settled(best, START, default, {"n_ubatch"}) == replace(default, n_ubatch=128)
    tried = {"n_ubatch", "flash_attention", "threads"}
    assert settled(best, START, default, tried) == best  # refused, or slower: the default's values lost
    small = replace(START, kv_type="q8_0", flash_attention=True)
    assert settled(small, small, replace(small, flash_attention=False), {"kv_type"}) == small
