"""Statistics are those of SciPy, with intervals that hold what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aesedge.eval import statistics

stats = pytest.importorskip("scipy.stats")


def drawn(n: int, noise: float, *, ties: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 2, n)
    y = x + rng.normal(0, noise, n)
    return (x.round(), y.round()) if ties else (x, y)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("noise", [0.0, 1.0, 8.0])
def test_correlations_are_scipy_s(noise: float, ties: bool) -> None:
    x, y = drawn(80, noise, ties=ties)
    assert statistics.srcc(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert statistics.pearson(x, y).value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert statistics.kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_an_interval_holds_the_true_value_in_nineteen_of_twenty_tables() -> None:
    true, n_inside = 1 / math.sqrt(1 + 0.5**2), 0
    for seed in range(60):
        x, y = drawn(60, 1.0, seed=seed)
        found = statistics.pearson(x, y, seed=seed)
        n_inside += found.low <= true <= found.high
    assert 50 <= n_inside <= 60


def test_an_interval_is_the_same_each_time() -> None:
    x, y = drawn(50, 2)
    assert statistics.srcc(x, y) == statistics.srcc(x, y)
    assert statistics.srcc(x, y, seed=1) != statistics.srcc(x, y)


def test_intervals_are_those_of_photographs_drawn_with_scipy_s_ranks() -> None:
    """Ranks are computed from how often each photograph was drawn; here they are computed from the photographs."""
    x, y = drawn(40, 2, ties=True)
    rng = np.random.default_rng(0)
    figures = []
    for _ in range(statistics.N_BOOTSTRAP):
        i = rng.integers(0, 40, 40)
        figures.append(stats.spearmanr(x[i], y[i]).statistic)
    found = statistics.srcc(x, y)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(figures, [0.025, 0.975])))


def test_what_does_not_vary_has_no_correlation() -> None:
    for function in (statistics.srcc, statistics.pearson):
        assert math.isnan(function([1.0] * 9, list(range(9))).value)
        assert math.isnan(function([0.1] * 9, list(range(9))).value)
        found = function([0.1, 0.2, 0.1], [1.0, 2.0, 3.0])  # many resamples do not vary
        assert (found.low, found.high) == pytest.approx((-1, 1))


def test_the_mean_of_right_answers() -> None:
    found = statistics.mean([True] * 30 + [False] * 10)
    assert found.value == 0.75
    assert 0.55 < found.low < 0.65
    assert 0.85 < found.high < 0.95
    assert statistics.mean([True] * 5) == (1, 1, 1)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_few_photographs_are_fitted_without_a_word(n: int, recwarn: pytest.WarningsRecorder) -> None:
    assert np.isfinite(statistics.logistic_fit(list(range(n)), [3.0, 1.0, 2.0, 5.0, 4.0, 9.0][:n])).all()
    assert not recwarn.list


def test_pairs_of_very_many_photographs_are_drawn() -> None:
    x = np.arange(20_000.0) % 1000 / 100
    found = statistics.pair_accuracy(x, x)
    assert sum(pair.n_pairs for pair in found) <= statistics.MOST_IN_PAIRS**2 / 2
    assert {pair.share for pair in found} == {1.0}


def test_the_logistic_fit_straightens_a_bent_relation_in_both_directions() -> None:
    x = np.linspace(0, 10, 60)
    y = 2 + 6 / (1 + np.exp(-(x - 6) * 2))
    for opinions in (y, 10 - y):
        fitted = statistics.logistic_fit(x, opinions)
        assert np.abs(fitted - opinions).max() < 0.05
    assert abs(statistics.pearson(x, y).value) < 0.95


def test_pairs_are_counted_by_their_distance() -> None:
    opinions = [0.0, 0.5, 3.0, 9.0]
    found = statistics.pair_accuracy([1.0, 0.0, 2.0, 2.0], opinions)
    assert [(pair.n_pairs, pair.share) for pair in found] == [(1, 0.0), (0, pytest.approx(float("nan"), nan_ok=True)),
                                                              (2, 1.0), (3, pytest.approx(2.5 / 3))]  # fmt: skip


def test_calibration_has_equally_many_photographs_in_each_part() -> None:
    x, y = drawn(95, 1)
    found = statistics.calibration(x, y)
    assert sorted({part.n for part in found}) == [9, 10]
    assert [part.score for part in found] == sorted(part.score for part in found)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [("1111", "1111", 1.0), ("11110", "00001", 0.375), ("1" * 10, "0" * 10, 2 / 1024), ("", "", 1.0)],
)
def test_mcnemar_is_exact(first: str, second: str, p: float) -> None:
    given = [[digit == "1" for digit in digits] for digits in (first, second)]
    assert statistics.mcnemar(*given) == pytest.approx(p)


def test_a_setting_that_is_the_same_changes_nothing_and_one_that_is_noise_loses() -> None:
    x, y = drawn(200, 1)
    assert statistics.srcc_difference(x, x, y) == (0, 0, 0)
    assert statistics.srcc_difference(x, np.random.default_rng(1).normal(size=200), y).high < 0
