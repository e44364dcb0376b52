"""Charts: whole pictures or none, from any names; nothing but the cache folder is written to; the extra is named."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import bench_results
import msgspec
import pytest
from kernel_report import KernelReport, KernelRow
from PIL import Image
from roofline import draw_roofline

from aesedge.bench.ceilings import Ceilings
from aesedge.bench.chart import save_chart
from aesedge.bench.plot import Chart, clean
from aesedge.bench.result import Row, save_result
from aesedge.cli import main
from aesedge.errors import UsageError
from aesedge.system.paths import cache_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="the extra plot draws")


def n_colors(path: Path) -> int:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return len(picture.convert("RGB").getcolors(1 << 20) or [])


def test_chart_is_written_whole_or_not_at_all(matplotlib: None, tmp_path: Path) -> None:
    path = tmp_path / "result.png"
    save_chart(bench_results.result(), path)
    assert n_colors(path) > 20
    with Image.open(path) as picture:
        full = picture.height
        assert picture.width > 1000
    save_chart(bench_results.result(rows=bench_results.rows()[:9], ok=False), path)
    with Image.open(path) as picture:
        assert picture.height < full
    with pytest.raises(UsageError, match="nothing was measured"):
        save_chart(bench_results.empty(), tmp_path / "none.png")
    with pytest.raises(OSError, match="none"):
        save_chart(bench_results.result(), tmp_path / "none" / "a.png")
    assert [found.name for found in tmp_path.iterdir()] == ["result.png"]


def test_chart_takes_any_names_and_shares_beyond_the_ceiling(matplotlib: None, tmp_path: Path) -> None:
    odd = Row(test="名前" * 40, group="language", unit="t", n=576, samples_ns=[1], percent_of={"read bandwidth": 340.0})
    plain = Row(test="$x^2$ $\\frac{", group="language", unit="t", n=576, samples_ns=[5])
    card = bench_results.card(bundle="x" * 400, model_type="\x1b夕$" * 90)
    save_chart(bench_results.result(rows=[odd, plain], card=card), tmp_path / "odd.png")
    assert n_colors(tmp_path / "odd.png") > 5
    assert clean("a$b\x1b", 10) == "a\\$b\\x1b"
    assert clean("x" * 9, 5) == "xxxx…"


@pytest.mark.parametrize("log_x", [True, False])
@pytest.mark.parametrize("lines", [{"one": [(16.0, 0.5)]}, {"a": [(16.0, 0.0), (64.0, 0.0)], "b": [(64.0, -3.0)]}])
def test_lines_are_drawn(
    matplotlib: None, tmp_path: Path, lines: dict[str, list[tuple[float, float]]], log_x: bool
) -> None:
    chart = Chart(title="t", x_label="x", y_label="y", lines=lines, log_x=log_x, band=(0.0, 0.1))
    chart.save(tmp_path / "chart.png")
    assert n_colors(tmp_path / "chart.png") > 5


def test_bench_show_draws_and_writes_to_no_other_folder(matplotlib: None, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    save_result(bench_results.result(), tmp_path / "a.json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG"))}
    command = [sys.executable, "-m", "aesedge", "bench", "show", "a.json", "--plot", "a.png"]
    done = subprocess.run(
        command, env={**environment, "HOME": str(home)}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert n_colors(tmp_path / "a.png") > 20
    assert not list(home.iterdir())
    assert (cache_folder() / "matplotlib").is_dir()


def test_without_matplotlib_the_extra_is_named_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    save_result(bench_results.result(), tmp_path / "a.json")
    for command in (["bench"], ["bench", "show", str(tmp_path / "a.json")]):
        assert main([*command, "--plot", str(tmp_path / "a.png")]) == 2
        out, err = capsys.readouterr()
        assert "pip install 'aesedge[plot]'" in err
        assert out == ""


def made_row(columns: int, *, repacked: bool, gflop_per_s: float) -> KernelRow:
    n_operations, n_bytes = 2.0 * 4096 * 4096 * columns, 4096 * 4096 * 4.5 / 8
    seconds = n_operations / gflop_per_s / 1e9
    of = {"kernel": "matmul", "name": "attn", "type": "q4_k", "memory": "CPU", "depth": 0, "count": 128}
    times = {"seconds": seconds, "seconds_min": seconds, "samples_s": [seconds], "gb_per_s": n_bytes / seconds / 1e9}
    work = {"n_bytes": n_bytes, "n_operations": n_operations, "gflop_per_s": gflop_per_s, "columns": columns}
    unknown = {"percent_of_bandwidth": None, "percent_of_peak": None}
    return KernelRow(repacked=repacked, **of, **times, **work, **unknown)  # type: ignore[arg-type]


def made_report(ceilings: Ceilings) -> KernelReport:
    rows = [
        made_row(columns, repacked=repacked, gflop_per_s=speed * (1.2 if repacked else 1))
        for columns, speed in ((1, 60.0), (64, 300.0), (576, 400.0))
        for repacked in (False, True)
    ]
    of = {"shape": "llava-1.5-7b", "device": "a CPU", "host": "here", "n_threads": 2, "ggml": "0.1 abc"}
    return KernelReport(ceilings=ceilings, rows=rows, skipped=[], excluded={}, **of)  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [True, False])
def test_roofline_is_a_picture(matplotlib: None, tmp_path: Path, *, known: bool) -> None:
    figures = {"read_bytes_per_s": 25e9, "fma_flops_per_s": 230e9, "int8_ops_per_s": 920e9} if known else {}
    ceilings = Ceilings(**figures, source="made up")
    draw_roofline(msgspec.to_builtins(made_report(ceilings)), tmp_path / "roofline.png")
    with Image.open(tmp_path / "roofline.png") as picture:
        assert picture.size == (1240, 640)
    assert n_colors(tmp_path / "roofline.png") > 20
    assert [path.name for path in tmp_path.iterdir()] == ["roofline.png"]
