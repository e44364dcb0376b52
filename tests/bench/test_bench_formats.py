"""A result says in every form what was measured: nothing is dropped, nothing is made up, random weights are named."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, get_args

import bench_results

from aesedge.bench.number_format import digits, rate_text, scaled, time_text, value_text
from aesedge.bench.output_formats import FileFormat, Format, left_out, render
from aesedge.bench.result import Against, Quality, Result, Row, load_result, save_result
from aesedge.cli.bench_text import WIDTH, result_text

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = get_args(FileFormat)
LLAMA_BENCH_MD = ["model", "size", "params", "backend", "threads", "test", "t/s"]
LLAMA_BENCH_FIELDS = [
    "build_commit", "cpu_info", "gpu_info", "backends", "model_filename", "model_type", "model_size", "model_n_params",
    "n_batch", "n_ubatch", "n_threads", "type_k", "type_v", "n_gpu_layers", "flash_attn", "repack", "n_prompt", "n_gen",
    "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts",
]  # fmt: skip


def records(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(result, "csv"))))


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in render(result, "jsonl").splitlines()]


def md_table(text: str) -> list[list[str]]:
    """Return the cells of the first table, header first."""
    begun = text[text.index("| model") :].split("\n\n", maxsplit=1)[0].splitlines()
    found = [[cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")] for line in begun]
    assert len({len(row) for row in found}) == 1
    return [found[0], *found[2:]]


def row_of(**values: Any) -> Row:
    return Row(**{"test": "pp576", "group": "language", "unit": "t", "n": 576} | values)


def test_markdown_has_llama_benchs_columns_first_and_every_row() -> None:
    result = bench_results.result()
    header, *cells = md_table(render(result, "md"))
    assert header[:7] == LLAMA_BENCH_MD
    tests = [row[header.index("test")] for row in cells]
    assert tests == [row.test for row in result.rows]
    pp = dict(zip(header, cells[tests.index("pp576")], strict=True))
    assert pp["t/s"] == f"{result.rows[7].avg_ts:.2f} ± {result.rows[7].stddev_ts:.2f}"
    assert (pp["size"], pp["params"], pp["threads"]) == ("3.80 GiB", "6.74 B", "2")
    assert (pp["median ms"], pp["% of ceiling"], pp["watts"]) == ("23900", "26 % of int8 peak", "41.0")


def test_t_per_s_holds_only_tokens_a_second() -> None:
    header, *cells = md_table(render(bench_results.result(), "md"))
    photos = dict(zip(header, cells[-1], strict=True))
    assert photos["t/s"] == ""
    assert photos["other rate"].endswith("photos/min")


def test_markdown_of_a_gpu_has_the_layers_too() -> None:
    card = bench_results.card(
        backend="CUDA",
        plan=bench_results.PLAN | {"n_gpu_layers": 33},
        hardware={"cpu": "x", "gpus": [{"name": "H100"}]},
    )
    header, *cells = md_table(render(bench_results.result(card=card), "md"))
    assert header[:8] == ["model", "size", "params", "backend", "ngl", "threads", "test", "t/s"]
    assert {row[4] for row in cells} == {"33"}
    assert "on H100" in render(bench_results.result(card=card), "md")


def test_every_row_says_random_weights() -> None:
    result = bench_results.result()
    _, *cells = md_table(render(result, "md"))
    assert {row[0] for row in cells} == {"llama 7B Q4_K - Medium (random weights)"}
    assert {record["random_weights"] for record in records(result)} == {"llava-1.5-7b"}
    assert {line["random_weights"] for line in lines(result)} == {"llava-1.5-7b"}
    real = bench_results.result(card=bench_results.card(random_weights=""))
    assert not [form for form in FORMATS if "random weights" in render(real, form)]
    assert "random weights" not in result_text(real)


def test_csv_has_llama_benchs_fields_first_in_its_order() -> None:
    found = records(bench_results.result())
    assert list(found[0])[: len(LLAMA_BENCH_FIELDS)] == LLAMA_BENCH_FIELDS
    pp = next(record for record in found if record["test"] == "pp576")
    assert (pp["avg_ns"], pp["n_prompt"], pp["n_gen"]) == ("23900000000", "576", "0")
    assert float(pp["avg_ts"]) == bench_results.rows()[7].avg_ts
    assert json.loads(pp["percent_of"]) == {"int8 peak": 26.2}
    assert pp["build_commit"] == "0c1e570-dirty"


def test_a_measured_zero_stays_and_what_is_missing_is_empty() -> None:
    still = row_of(samples_ns=[10, 10], watts=0.0, percent_of={"int8 peak": 0.0})
    gauge = Row(test="device memory", group="memory", n_bytes=0)
    result = bench_results.result(rows=[still, gauge])
    first, second = records(result)
    assert (first["watts"], first["stddev_ns"], first["n_bytes"]) == ("0.0", "0", "")
    assert (second["n_bytes"], second["watts"], second["avg_ns"], second["avg_ts"]) == ("0", "", "", "")
    _, of_first, of_second, *_ = lines(result)
    assert (of_first["watts"], of_first["percent_of"]) == (0.0, {"int8 peak": 0.0})
    assert (of_second["n_bytes"], of_second["watts"]) == (0, None)
    assert "0 B" in render(result, "md")
    assert "0 % of int8 peak" in render(result, "md")
    assert next(line for line in lines(bench_results.result()) if line["kind"] == "quality")["score_drift"] == 0.0


def test_json_lines_hold_everything_that_was_measured() -> None:
    result = bench_results.result(kernels={"read_bytes_per_s": 3.0})
    found = lines(result)
    kinds = [line["kind"] for line in found]
    assert kinds == ["card", *["row"] * len(result.rows), "against", "quality", *["prediction"] * 2, "kernels"]
    pp = next(line for line in found if line.get("test") == "pp576")
    assert pp["samples_ns"] == result.rows[7].samples_ns
    assert pp["samples_ts"] == result.rows[7].samples_ts
    assert next(line for line in found if line.get("test") == "ttft cold")["parts_s"]["vision_s"] == 2.31
    assert {"reference", "ratio", "ours_ns", "theirs_ns"} <= set(found[kinds.index("against")])


def test_json_can_be_read_again(tmp_path: Path) -> None:
    result = bench_results.result()
    save_result(result, tmp_path / "run.json")
    assert load_result(tmp_path / "run.json") == result
    assert render(result, "json").encode() + b"\n" == (tmp_path / "run.json").read_bytes()


def test_files_that_say_complete_for_ok_are_read(tmp_path: Path) -> None:
    for ok, word in ((True, "true"), (False, "false")):
        save_result(bench_results.result(ok=ok), tmp_path / "new.json")
        text = (tmp_path / "new.json").read_text().replace(f'"ok": {word}', f'"complete": {word}', 1)
        assert "complete" in text
        (tmp_path / "old.json").write_text(text)
        assert load_result(tmp_path / "old.json") == load_result(tmp_path / "new.json")
        assert load_result(tmp_path / "old.json").ok is ok


def test_names_break_neither_tables_nor_terminals() -> None:
    name = "Übergröße | 夕焼け\x1b[31m *x*\n# y"
    result = bench_results.result(card=bench_results.card(bundle=name, model_type=f"llama {name}"))
    text = render(result, "md")
    assert "\x1b" not in text
    assert "\n# y" not in text
    md_table(text)
    assert "\x1b" not in result_text(result)
    assert {record["bundle"] for record in records(result)} == {name}


def test_one_sample_has_no_spread() -> None:
    result = bench_results.result(rows=[row_of(samples_ns=[2_000_000_000])])
    assert "288.00 ± 0.00" in render(result, "md")
    assert records(result)[0]["stddev_ts"] == "0.0"
    assert "288.00" in result_text(result)


def test_interrupted_is_said() -> None:
    cut = bench_results.result(ok=False, rows=bench_results.rows()[:4])
    assert "incomplete: interrupted" in render(cut, "md")
    assert "incomplete: interrupted" in result_text(cut)
    assert {record["ok"] for record in records(cut)} == {"0"}
    assert all(line["ok"] is False for line in lines(cut) if line["kind"] in {"card", "row"})
    assert "incomplete" not in render(bench_results.result(), "md")


def test_a_pair_that_was_cut_short_is_shown_without_a_ratio() -> None:
    cut = bench_results.result(against=[Against(test="ttft cold", what="x", ours_ns=[], theirs_ns=[])], ok=False)
    assert all(render(cut, form) and render(bench_results.empty(), form) for form in FORMATS)
    assert "ttft cold" in result_text(cut)


def test_what_a_form_cannot_hold_is_named() -> None:
    result = bench_results.result(kernels={"x": 1})
    assert left_out(result, "csv") == "the form csv has no room for quality, against, predictions, kernels; json has"
    assert not left_out(result, "json")
    assert get_args(Format) == ("table", *FORMATS)
    assert not left_out(bench_results.result(), "jsonl")


def test_terminal_text_fits_and_has_every_test_without_colour() -> None:
    result = bench_results.result()
    text = result_text(result)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= WIDTH
    for row in result.rows:
        assert f"  {row.test} " in text
    for group in ("load", "image", "language", "photo", "memory"):
        assert f"{group} (random weights)" in text
    assert "disturbs: load: 1.2 of 2 cores busy with other programs" in text
    assert "battery" not in text
    assert "1.32x" in text
    assert "worst photo 0.040" in text
    assert text.count("tokenizing, sampling") == render(result, "md").count("tokenizing, sampling") == 1
    columns = {line.index("±") for line in text.splitlines() if "t/s" in line and "±" in line}
    assert len(columns) == 1  # rates stand under one another


def test_zeros_of_nothing_measured_are_not_shown_as_figures() -> None:
    nothing = Quality(
        setting="q8_0", reference="q8_0", score_drift=0.0, worst_score_drift=0.0, nll_change=0.0, n_photos=0,
        note="not measured: the setting is the reference itself",
    )  # fmt: skip
    for text in (
        result_text(bench_results.result(quality=nothing)),
        render(bench_results.result(quality=nothing), "md"),
    ):
        assert "the setting is the reference itself" in text
        assert "0.000" not in text


def test_long_sentences_stand_below_their_table() -> None:
    long = Against(test="ttft cold", what="word " * 60, ours_ns=[1, 2], theirs_ns=[3, 4])
    text = result_text(bench_results.result(against=[long]))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("word") == 60


def test_figures_have_their_natural_units_and_digits_that_count() -> None:
    times = {0: "0 ms", 4.2e-6: "4.20 us", 0.0098: "9.80 ms", 0.312: "312 ms", 1.239: "1.24 s", 123.4: "123 s"}
    assert {seconds: time_text(seconds) for seconds in times} == times
    assert rate_text(row_of(n=1, samples_ns=bench_results.spread(2.31))) == ("0.433", "0.003")
    assert rate_text(row_of()) == ("", "")
    assert (digits(0), scaled(31.4e9, "B/s")) == ("0", "31.4 GB/s")
    facts = {"read_bytes_per_s": 31.4e9, "ram_bytes": 2_000_000_000, "is_virtual": False, "took_s": 0.5, "n": 0}
    assert value_text(facts) == "read 31.4 GB/s, ram 2.00 GB, virtual no, took 500 ms, n 0"
    assert value_text({"gpus": [], "x": None}) == "-"
