"""The first pass: what the vision tower may decide, how sure it is, and when it has to leave it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cli_runner import cli  # noqa: F401 (a fixture)
from photo_files import write_photos

from aesedge.library import first_pass
from aesedge.library.catalogue import open_catalogue
from aesedge.library.ridge import fit_ridge, rank_correlation

if TYPE_CHECKING:
    from pathlib import Path

    from cli_runner import Cli


def drawn(n: int, *, n_groups: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, scores and groups: frames of a group are alike, and have an error in common."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, n)
    features = rng.normal(size=(n_groups, 20))[groups] + 0.1 * rng.normal(size=(n, 20))
    common = rng.normal(size=n_groups)[groups]
    scores = 5 + features @ np.linspace(-0.5, 0.5, 20) + noise * common + 0.05 * rng.normal(size=n)
    return features, scores, groups


def test_residuals_are_those_of_fits_without_the_whole_group() -> None:
    features, scores, groups = drawn(60, n_groups=12, noise=0.5)
    ridge = fit_ridge(features, scores, groups)
    penalty = 1 / np.linalg.eigvalsh(ridge.inverse)[-1] - max(
        0.0, float(np.linalg.eigvalsh(ridge.basis @ ridge.basis.T / 20 + 10.0)[0])
    )
    predicted = np.empty(60)
    for group in np.unique(groups):
        out = groups == group
        x, rest = ridge.basis[out], ridge.basis[~out]
        kernel = rest @ rest.T / 20 + 10.0
        alpha = np.linalg.solve(kernel + penalty * np.eye(len(rest)), scores[~out] - scores.mean())
        predicted[out] = (x @ rest.T / 20 + 10.0) @ alpha + scores.mean()
    errors = np.sort(np.abs(predicted - scores))
    assert ridge.half_width == pytest.approx(errors[int(np.ceil(61 * 0.9)) - 1], rel=1e-6)
    assert ridge.correlation == pytest.approx(rank_correlation(scores, predicted), abs=1e-9)


def test_the_interval_holds_for_groups_that_were_not_seen() -> None:
    features, scores, groups = drawn(1200, n_groups=200, noise=1.0)
    known = groups < 100
    ridge = fit_ridge(features[known], scores[known], groups[known])
    predicted, _ = ridge.predict(features[~known])
    covered = np.mean(np.abs(predicted - scores[~known]) <= ridge.half_width)
    assert covered >= 0.8
    alone = fit_ridge(features[known], scores[known], np.arange(known.sum()))  # as if frames were independent
    assert np.mean(np.abs(alone.predict(features[~known])[0] - scores[~known]) <= alone.half_width) < covered


def test_what_cannot_be_learnt_does_not_correlate() -> None:
    rng = np.random.default_rng(1)
    ridge = fit_ridge(rng.normal(size=(100, 20)), rng.normal(size=100), np.arange(100))
    assert ridge.correlation < 0.4


def test_photos_unlike_all_that_was_learnt_from_are_named() -> None:
    features, scores, groups = drawn(200, n_groups=200, noise=0.1)
    ridge = fit_ridge(features, scores, groups)
    _, strange = ridge.predict(np.vstack([features[:50], features[:5] + 30]))
    assert strange[50:].all()
    assert strange[:50].mean() < 0.1


def test_ranks_have_ties() -> None:
    assert rank_correlation(np.array([1, 2, 2, 3.0]), np.array([1, 2, 2, 3.0])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3.0]), np.array([3, 2, 1.0])) == pytest.approx(-1)
    assert rank_correlation(np.ones(3), np.array([1, 2, 3.0])) == 0


@pytest.mark.parametrize(
    ("bursts", "chosen"),
    [
        ([], [99, 98]),
        ([[99, 40, 41, 42]], [99, 98, 42]),
        ([[30, 31, 32], [50, 51, 52]], [99, 98, 52, 51]),  # the better burst first, and no more than 2 %
        ([[97, 98, 99]], [99, 98]),
        ([[200, 201]], [99, 98]),  # judged already
    ],
)
def test_the_best_two_frames_of_the_best_bursts_are_judged(bursts: list[list[int]], chosen: list[int]) -> None:
    predicted = {i: i / 10 for i in range(100)}
    assert list(first_pass.choose(predicted, dict.fromkeys(predicted, False), bursts, 100, 0.02)) == chosen


def test_some_of_what_is_strange_is_judged() -> None:
    predicted = {i: i / 10 for i in range(100)}
    chosen = first_pass.choose(predicted, {i: i < 10 for i in predicted}, [], 100, 0.02)
    assert len(chosen) == 4
    assert {99, 98} < chosen.keys() < {99, 98, *range(10)}


@pytest.fixture
def small_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_pass, "LEAST_PHOTOS", 60)
    monkeypatch.setattr(first_pass, "_LEAST_SAMPLE", 30)


def by_source(folder: Path) -> dict[str, int]:
    with open_catalogue() as catalogue:
        photos = list(catalogue.judgements(folder))
    for photo in photos:
        is_estimate = photo.score_from == "first pass"
        assert is_estimate == (photo.low is not None)
        assert not is_estimate or (photo.low <= photo.score <= photo.high and photo.attributes == {})  # type: ignore[operator]
    return {kind: sum(photo.score_from == kind for photo in photos) for kind in ("model", "first pass")}


def test_a_share_is_judged_and_the_others_are_estimated(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    small_libraries: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_pass, "LEAST_CORRELATION", -1.0)  # random weights see nothing alike
    folder = tmp_path / "photos"
    write_photos(folder, 80)
    code, out, err = cli("rate", "--first-pass", "20%", folder)
    assert code == 0
    found = by_source(folder)
    assert found["model"] + found["first pass"] == 80
    assert 30 + 16 - 10 <= found["model"] <= 30 + 16 + 5
    assert f"{found['first pass']} estimated" in out
    assert "first pass: learnt from 30 photos" in err
    assert f"first pass: {found['first pass']} photos are estimated; of " in err
    assert cli("rate", "--first-pass", "20%", folder)[1] == "80 photos: 80 known\n"
    _, out, _ = cli("rate", folder)  # without it, the model judges all
    assert out.startswith(f"80 photos: {found['first pass']} judged in ")
    assert by_source(folder) == {"model": 80, "first pass": 0}


@pytest.mark.parametrize(
    ("n", "correlation", "message"),
    [
        (20, -1.0, "first pass: off, 20 photos are too few"),
        (70, 1.1, "first pass: off, its predictions correlate with"),
    ],
)
def test_it_turns_itself_off_and_says_so(
    n: int,
    correlation: float,
    message: str,
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    small_libraries: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_pass, "LEAST_CORRELATION", correlation)
    write_photos(tmp_path, n)
    code, out, err = cli("rate", "--first-pass", "0.2", "--json", tmp_path)
    assert code == 0
    assert message in err
    assert len({json.loads(line)["photo"] for line in out.splitlines()}) == n
    assert by_source(tmp_path) == {"model": n, "first pass": 0}
