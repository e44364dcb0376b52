"""`aesedge taste`: learnt where left-out days gain by it, and refused where they do not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from judged_library import judge

from aesedge.cli import main
from aesedge.xmp.editing import edit
from aesedge.xmp.packet import NEW_PACKET
from aesedge.xmp.property_names import RATING

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400.0


def library(folder: Path, n: int, n_days: int, *, gain: bool, n_unrated: int = 0) -> tuple[np.ndarray, list[str]]:
    """Photos whose stars follow the score and, with a gain, something that only the mean rows show."""
    rng = np.random.default_rng(n + n_days)
    total = n + n_unrated
    rows = rng.normal(size=(total, 16)).astype(np.float16)
    scores = rng.uniform(2, 9, total)
    liking = rows[:, 3].astype(float) if gain else rng.normal(size=total)
    stars = np.clip(np.round(scores / 2.5 + 1.3 * liking), 1, 5).astype(int)
    names = [f"{i:03}.jpg" for i in range(total)]
    judge(
        folder,
        dict(zip(names, scores, strict=True)),
        days=[1e9 + DAY_S * (i % n_days) for i in range(total)],
        mean_rows={name: row.tobytes() for name, row in zip(names, rows, strict=True)},
    )
    for name, one in list(zip(names, stars, strict=True))[:n]:
        (folder / f"{name}.xmp").write_bytes(edit(NEW_PACKET, {RATING: str(one)}, "x"))
    return stars, names


def taste(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["taste", "--json", str(folder)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_taste_that_the_photos_show_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stars, _ = library(tmp_path, 120, 4, gain=True, n_unrated=30)
    learnt, *photos = taste(tmp_path, capsys)
    assert (learnt["ok"], learnt["photos"], learnt["days"]) == (True, 120, 4)
    assert learnt["error_of_taste"] < 0.75 * learnt["error_of_score"]
    assert learnt["correlation_of_taste"] > learnt["correlation_of_score"] + 0.1
    assert len(photos) == 150
    unrated = [(photo["taste"], n) for photo, n in zip(photos, stars, strict=True) if photo["stars"] is None]
    assert len(unrated) == 30
    assert np.corrcoef(*zip(*unrated, strict=True))[0, 1] > 0.7  # photos that it has never seen
    assert main(["taste", str(tmp_path), "--top", "3"]) == 0
    out, err = capsys.readouterr()
    assert "120 photos that you have rated, of 4 days" in out
    assert "147 more" in err


@pytest.mark.parametrize("n_days", [3, 7])
def test_noise_is_no_taste(tmp_path: Path, n_days: int, capsys: pytest.CaptureFixture[str]) -> None:
    library(tmp_path, 80, n_days, gain=False)
    (learnt,) = taste(tmp_path, capsys)
    assert not learnt["ok"]
    assert main(["taste", str(tmp_path)]) == 0
    assert "your ratings do not yet say more than the score: 80 photos" in capsys.readouterr().out


@pytest.mark.parametrize(("n", "n_days"), [(49, 4), (60, 2), (0, 3)])
def test_few_ratings_are_not_enough(tmp_path: Path, n: int, n_days: int, capsys: pytest.CaptureFixture[str]) -> None:
    library(tmp_path, n, n_days, gain=True, n_unrated=10)
    (said,) = taste(tmp_path, capsys)
    assert said["reason"].startswith(f"{n} judged and dated photos of {n_days if n else 0} days have your stars")


def test_what_aesedge_wrote_is_no_taste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library(tmp_path, 0, 4, gain=True, n_unrated=60)
    assert main(["stars", str(tmp_path)]) == 0
    capsys.readouterr()
    (said,) = taste(tmp_path, capsys)
    assert said["reason"].startswith("0 judged and dated photos")
