"""The one command that makes pocket: every stage runs, keeps its result and goes on where it was cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs the extra [export]")
pytest.importorskip("scipy", reason="needs the extra [export]")

import torch
from aesedge_export.pocket import crops, cutouts, filters, photos
from aesedge_export.pocket.lessons import WHOLE_SIDES, lessons_from
from aesedge_export.pocket.progress import rank, share_gradients, together
from aesedge_export.pocket.tokenizer import train_tokenizer
from aesedge_export.pocket.torch_judge import TorchJudge
from aesedge_export.pocket.train import Plan, finished_tower, leg_path, tower_from, train

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.export
STAGES = ["photographs", "crops", "tower", "thresholds", "lessons", "tokenizer", "language"]
N_PICTURES = 2 * crops.PER_CROP


def write_cache(cache: Path) -> None:
    """Two photographs, a subject and a part of crops for each split."""
    for folder in ("photos", "cutouts", "training"):
        (cache / folder).mkdir()
    rng, rows = np.random.default_rng(0), []
    for number, split in enumerate(("train", "validation")):
        photo = photos.Photo(split, "p.jpg", "package", "1", "CC0", "me", f"{number}" * 64, split, split)
        cells = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        large = Image.fromarray(cells).resize((480, 360), Image.Resampling.BICUBIC)
        large.save(photos.photo_path(cache, photo))
        large.resize((200, 160)).convert("RGBA").save(cutouts.cutout_path(cache, photo))
        rows.append(asdict(photo))
    for table in ("provenance.json", "cutouts.json"):
        (cache / table).write_text(json.dumps(rows), "utf-8")
    np.save(cache / "filters-0.npy", filters.design())
    for split, n_parts in (("train", 1), ("validation", 4)):
        base = cache / f"crops-{split}-0"
        base.mkdir()
        for part in range(n_parts):
            crops.make_part(part, base=base, cache=cache, split=split, seed=0)
    train_tokenizer(cache / "training" / "tokenizer.model", n_conversations=3000)


@pytest.mark.filterwarnings("ignore:(Mean of empty slice|invalid value)")  # of faults that a dozen pictures lack
def test_one_command_goes_from_photographs_to_a_checkpoint_and_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crops, "PER_PART", 2)
    monkeypatch.setattr(crops, "SCENE_EVERY", 2)
    cache, out = tmp_path / "cache", tmp_path / "checkpoint"
    cache.mkdir()
    write_cache(cache)
    plan = Plan(
        cache, seed=0, processes=1, parts=1, tower_steps=1, legs=1, leg_steps=1, pictures=N_PICTURES, language_steps=1
    )
    train(plan, out)
    first, second, mean = (
        dict(tower.named_parameters())
        for tower in (*(tower_from(plan, leg_path(plan, leg)) for leg in (0, 1)), finished_tower(plan))
    )
    assert not torch.equal(first["head.weight"], second["head.weight"])
    for name, weight in mean.items():
        assert torch.allclose(weight, (first[name] + second[name]) / 2)
    record = json.loads((out / "training.json").read_text("utf-8"))
    assert list(record["seconds"]) == STAGES
    lessons = lessons_from(plan.state)
    assert len(lessons.features) == len(lessons.seen) == len(lessons.looks) == N_PICTURES + 2 * len(WHOLE_SIDES)
    photo = Image.open(photos.photo_path(cache, photos.gather(cache)[0])).convert("RGB")
    (score, _), *_ = TorchJudge(out).judge([photo], critiques=False)
    assert 0 <= score <= 10

    looked = (plan.state / "features.npy").stat().st_mtime_ns
    capsys.readouterr()
    train(replace(plan, language_steps=2, language=out), out)
    assert "tower step" not in capsys.readouterr().out
    assert (plan.state / "features.npy").stat().st_mtime_ns == looked
    assert torch.load(plan.state / "language.pt", weights_only=True)["step"] == 2

    train(replace(plan, tower_steps=2, language_steps=3), out)
    assert (plan.state / "features.npy").stat().st_mtime_ns != looked, "the tower is another one now"


def learn(out: Path, n: int) -> None:
    """Each process has its own gradient; each keeps what became of it."""
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = torch.full((3,), float(rank()))
    share_gradients([weight])
    (out / f"{rank()} of {n}").write_text(json.dumps(weight.grad.tolist()))


def test_processes_that_train_together_share_their_gradients(tmp_path: Path) -> None:
    together(2, learn, tmp_path, 2)
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert found == {"0 of 2": [0.5] * 3, "1 of 2": [0.5] * 3}
    together(1, learn, tmp_path, 1)
    assert json.loads((tmp_path / "0 of 1").read_text()) == [0.0] * 3


def wait_for_ever(out: Path) -> None:
    """Say which process this is, and stay."""
    new = out / f"{os.getpid()}.new"
    new.touch()
    new.rename(out / f"{os.getpid()}")
    time.sleep(600)


@pytest.mark.skipif(sys.platform == "win32", reason="asks after processes as POSIX does")
def test_no_process_goes_on_when_the_one_that_started_it_was_killed(tmp_path: Path) -> None:
    code = f"import test_pocket_train as t, pathlib; t.together(2, t.wait_for_ever, pathlib.Path({str(tmp_path)!r}))"
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    try:
        children = wait_until(lambda: [int(p.name) for p in tmp_path.iterdir() if not p.suffix], 2)
    finally:
        starter.kill()
        starter.wait()
    assert wait_until(lambda: [pid for pid in children if not alive(pid)], 2) == children


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(find: Callable[[], list[int]], n: int) -> list[int]:
    """Return what is found as soon as it is this many."""
    for _ in range(1800):
        if len(found := find()) == n:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{len(found)} of {n} after three minutes")
