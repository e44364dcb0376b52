"""Two runs are told apart by more than chance, and a regression by ratios, whatever machines they ran on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import bench_results
import pytest
import typer

from aesedge.bench.compare import Comparison, compare, ratios, regression, uncertainty
from aesedge.bench.result import Against, Result, Row, save_result
from aesedge.cli.bench_compare import compare as compare_command
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLD = {"vision_s": 2.0, "prefill_s": 20.0}


def run_with(seconds: float, *, by: float = 0.01, repetitions: int = 5, **changes: Any) -> Result:
    row = bench_results.language("pp576", seconds, 576, by=by, repetitions=repetitions)
    return bench_results.result(rows=[row], **changes)


def only(found: Comparison) -> Any:
    (change,) = found.changes
    return change


@pytest.mark.parametrize("repetitions", [3, 5, 6, 20])
def test_a_difference_beyond_chance_is_one(repetitions: int) -> None:
    slow, fast = (run_with(s, repetitions=repetitions) for s in (12.0, 10.0))
    assert only(compare(slow, fast)).verdict == "faster"
    assert only(compare(fast, slow)).verdict == "slower"
    speed = only(compare(slow, fast)).speed
    assert speed.ratio == pytest.approx(1.2)
    assert speed.low < 1.2 < speed.high


@pytest.mark.parametrize(("seconds", "by", "n"), [(12.0, 0.4, 3), (12.0, 0.4, 5), (12.0, 0.4, 6), (10.2, 1e-6, 5)])
def test_a_difference_within_noise_or_of_two_percent_is_none(seconds: float, by: float, n: int) -> None:
    found = compare(*(run_with(s, by=by, repetitions=n) for s in (seconds, 10.0)))
    assert only(found).verdict == "same"


def test_more_samples_make_surer() -> None:
    few, many = (uncertainty(bench_results.spread(1.0, n=n, by=0.2)) for n in (6, 60))
    assert few is not None
    assert many is not None
    assert many < few / 2


@pytest.mark.parametrize("repetitions", [1, 2])
def test_too_few_samples_decide_nothing(repetitions: int) -> None:
    change = only(compare(run_with(30.0, repetitions=repetitions), run_with(10.0)))
    assert change.verdict == "too few samples"
    assert change.speed.low is None


def test_memory_is_compared_as_it_stands() -> None:
    before, after = (
        bench_results.result(rows=[Row(test="peak RSS", group="memory", n_bytes=n)]) for n in (4_000_000_000, 0)
    )
    assert only(compare(before, after)).verdict == "less"
    assert only(compare(after, before)).verdict == "more"
    assert only(compare(after, after)).verdict == "same"


def test_photos_are_compared_one_by_one() -> None:
    def run(n: int) -> Result:
        samples = bench_results.spread(2.0 * n)
        return bench_results.result(
            rows=[Row(test="photos score", group="photo", unit="photos", per_minute=True, n=n, samples_ns=samples)]
        )

    assert only(compare(run(4), run(8))).speed.ratio == pytest.approx(1.0)


def test_rows_that_one_run_lacks_are_named() -> None:
    rows = bench_results.rows()
    found = compare(bench_results.result(rows=rows[:-1]), bench_results.result(rows=rows[1:]))
    assert (found.only_before, found.only_after) == (["load"], ["photos critique"])


def test_a_zero_time_is_no_accident() -> None:
    found = compare(
        run_with(10.0), bench_results.result(rows=[Row(test="pp576", group="language", samples_ns=[0] * 5)])
    )
    assert only(found).verdict == "faster"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hardware": {"cpu": "Ryzen"}}, "machine, cpu: AMD EPYC -> Ryzen"),
        ({"libraries": {"llama_cpp": "0.6"}}, "libraries, llama_cpp: 0.5.0-dev -> 0.6"),
        ({"plan": bench_results.PLAN | {"kv_type": "q8_0"}}, "settings, kv_type: f16 -> q8_0"),
        ({"ceilings": {"source": "NumPy"}}, "what measured the ceilings: AVX512 -> NumPy"),
        ({"random_weights": ""}, "random weights: llava-1.5-7b -> none"),
        ({"files": [{"role": "llm", "type": "q8_0", "sha256": "00" * 32}]}, "files, llm: q4_k_m abababababab -> q8_0"),
    ],
)
def test_what_makes_runs_unlike_is_told(changes: dict[str, Any], told: str) -> None:
    found = compare(run_with(1.0), run_with(1.0, card=bench_results.card(**changes)))
    assert any(text.startswith(told) for text in found.warnings), found.warnings


def test_free_memory_makes_no_other_machine_and_interruption_is_told() -> None:
    cards = [
        bench_results.card(hardware=bench_results.HARDWARE | {"ram_free_bytes": n}, disturbances=[]) for n in (1, 2)
    ]
    assert not compare(*(run_with(1.0, card=card) for card in cards)).warnings
    found = compare(run_with(1.0), run_with(1.0, ok=False))
    assert {"the later run was interrupted", "the earlier run was disturbed: load"} <= set(found.warnings)


def test_ratios_are_of_one_run_and_more_is_better() -> None:
    found = {ratio.name: ratio.value for ratio in ratios(bench_results.result())}
    assert list(found) == [
        "ttft cold against libmtmd",
        "ttft kv against ttft cold",
        "ttft embeddings against ttft cold",
        "q4x32 @ img against q1x32 @ img",
        "pp576, % of int8 peak",
        "pp576 img, % of int8 peak",
        "tg128, % of read bandwidth",
        "tg128 @ d640, % of read bandwidth",
    ]
    assert found["ttft kv against ttft cold"] == pytest.approx(28.232 / 1.31)
    assert found["q4x32 @ img against q1x32 @ img"] == pytest.approx((5.9 / 32) / (9.1 / 128))


def test_another_machine_is_no_regression() -> None:
    slower = bench_results.rows()
    for row in slower:
        row.samples_ns = [3 * ns for ns in row.samples_ns]
    card = bench_results.card(hardware={"cpu": "another"})
    found = regression(bench_results.result(), bench_results.result(rows=slower, card=card))
    assert not found.fallen
    assert not [text for text in found.warnings if "machine" in text]


def test_a_lost_cache_is_a_regression() -> None:
    before, after = (
        bench_results.result(rows=[bench_results.ttft("cold", COLD), bench_results.ttft("kv", {"first_token_s": s})])
        for s in (1.0, 2.0)
    )
    assert [trend.name for trend in regression(before, after).fallen] == ["ttft kv against ttft cold"]
    assert not regression(after, before).fallen
    assert not regression(before, after, tolerance=0.6).fallen


def test_a_fall_within_chance_is_none() -> None:
    before, after = (
        bench_results.result(
            rows=[bench_results.ttft("cold", COLD, by=0.5), bench_results.ttft("kv", {"first_token_s": s}, by=0.5)],
            against=[],
        )
        for s in (1.0, 1.3)
    )
    assert not regression(before, after).fallen


def against(ratio: float) -> list[Against]:
    ours = bench_results.spread(10.0)
    return [Against(test="ttft cold", what="", ours_ns=ours, theirs_ns=[round(ns * ratio) for ns in ours])]


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[str]]:
    def write(*results: Result) -> list[str]:
        paths = [tmp_path / f"{i} é.json" for i in range(len(results))]
        for path, result in zip(paths, results, strict=True):
            save_result(result, path)
        return [str(path) for path in paths]

    return write


def command(*arguments: str) -> int:
    """Run the command as a user would, registered as a command of its own."""
    app = typer.Typer()
    app.command()(compare_command)
    code = app(list(arguments), standalone_mode=False)
    return code if isinstance(code, int) else 0


def test_regression_exits_1_and_names_what_fell(
    files: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = (bench_results.result(rows=[], against=against(ratio)) for ratio in (1.3, 1.1))
    assert command(*files(good, bad), "--regression") == 1
    out, err = capsys.readouterr()
    assert "FELL" in out
    assert "regression: ttft cold against libmtmd fell: 1.30 -> 1.10" in err
    assert command(*files(bad, good), "--regression") == 0
    assert command(*files(good, bad), "--regression", "--tolerance", "20%") == 0
    assert "regression" not in capsys.readouterr().err


def test_a_false_alarm_can_be_seen_through(files: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    before, after = (
        bench_results.result(
            rows=[bench_results.ttft("cold", {"vision_s": s}), bench_results.ttft("kv", {"first_token_s": 1.0})]
        )
        for s in (20.0, 10.0)
    )
    assert command(*files(before, after), "--regression") == 1
    assert "ttft kv 1.00 s -> 1.00 s; ttft cold 20.0 s -> 10.0 s" in capsys.readouterr().err


@pytest.mark.parametrize("count", [0, 2])
def test_nothing_to_compare_is_an_error(files: Callable[..., list[str]], count: int) -> None:
    bare = bench_results.result(rows=[run_with(1.0, repetitions=count).rows[0]] if count else [], against=[])
    if bare.rows:
        bare.rows[0].percent_of = {"int8 peak": 9.0}
    with pytest.raises(UsageError, match="no ratio can be compared"):
        command(*files(bare, bare), "--regression")
    other = bench_results.result(rows=[Row(test="another", group="load", samples_ns=[1])])
    with pytest.raises(UsageError, match="no test in common"):
        command(*files(bare, other))


def test_seconds_are_shown_and_decide_no_exit_code(
    files: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    both = files(run_with(10.0), run_with(20.0, card=bench_results.card(bundle="another")))
    assert command(*both) == 0
    out = capsys.readouterr().out
    assert "slower" in out
    assert "differs: bundle: llava-1.5-7b-shape -> another" in out
    assert command(*both, "--format", "md") == 0
    assert "| pp576" in capsys.readouterr().out
    assert command(*both, "--format", "json") == 0
    out = capsys.readouterr().out
    assert command(*both, "--json") == 0
    assert (capsys.readouterr().out, out.count("\n")) == (out, 1)
    told = json.loads(out)
    assert told["changes"][0]["verdict"] == "slower"
    assert told["changes"][0]["speed"]["ratio"] == pytest.approx(0.5)


@pytest.mark.parametrize("tolerance", ["5", "0.05", "-1%", "100%", "nan%", ""])
def test_tolerance_is_a_percentage(files: Callable[..., list[str]], tolerance: str) -> None:
    with pytest.raises(UsageError, match="tolerance"):
        command(*files(run_with(1.0), run_with(1.0)), "--regression", f"--tolerance={tolerance}")


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', "[1]", '{"format": 1, "rows": []}'])
def test_what_is_no_result_is_refused(files: Callable[..., list[str]], tmp_path: Path, content: str) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"bad\.json"):
        command(*files(run_with(1.0)), str(bad))
    with pytest.raises(UsageError, match=r"none\.json: cannot be read"):
        command(str(tmp_path / "none.json"), str(bad))
