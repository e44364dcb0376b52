"""The command ``tune``, on a real tiny bundle."""

from __future__ import annotations

import json
import os
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

from aesedge.bundle.bundle import open_bundle
from aesedge.cli import main
from aesedge.config.options import Options
from aesedge.config.planning import make_plan
from aesedge.config.profile import load_profile
from aesedge.errors import MemoryFitError, UsageError
from aesedge.system.paths import cache_folder
from aesedge.tuning import search as searching
from aesedge.tuning import tune
from aesedge.tuning.comparison import (
    SCORE_TOLERANCE,
)
from aesedge.tuning.runners import Runners

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.config.plan import Settings


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
