"""What `bench --kernels` runs and shows: the model's own shapes, its matrices together, an error where not built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bench_results
import msgspec
import pytest
from conftest import open_tiny
from kernel_report import KernelReport, KernelRow, write_shapes
from kernel_tables import kernel_tables

from aesedge.bench import ceilings, kernels
from aesedge.bench.ceilings import Ceilings
from aesedge.bench.output_formats import render
from aesedge.bundle.bundle import POCKET
from aesedge.cli import main
from aesedge.cli.bench_text import result_text
from aesedge.engine.model import load_model
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from aesedge.engine.model import Model

ROOT = Path(__file__).parents[2]


def lines_of(path: Path) -> set[str]:
    lines = [" ".join(line.partition("#")[0].split()) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line for line in lines if line}


def written_shapes(model: Model, path: Path) -> Path:
    llm = model.internals.llm
    heads = [str(n) for n in (llm.n_head, llm.n_head_kv, llm.n_embd // llm.n_head, llm.n_layer)]
    write_shapes(model.bundle.path("llm", model.gguf), heads, path)
    return path


def test_shapes_of_pocket_are_those_of_the_shipped_file(tmp_path: Path) -> None:
    with load_model(POCKET, threads=1, cache="0") as model:
        written = lines_of(written_shapes(model, tmp_path / "pocket.txt"))
    assert written == lines_of(ROOT / "kernels_bench" / "shapes" / "pocket.txt")


def test_another_model_has_its_own_shapes_and_no_tower(bundle_folder: Path, tmp_path: Path) -> None:
    with open_tiny(bundle_folder, cache="0") as model:
        written = lines_of(written_shapes(model, tmp_path / "tiny.txt"))
        assert f"language output {model.internals.llm.n_vocab} {model.internals.llm.n_embd} 1" in written
        assert f"attention heads {model.internals.llm.n_head} {model.internals.llm.n_head_kv} " in " ".join(written)
    assert not [line for line in written if line.startswith("vision")]


ROW = {
    "kernel": "matmul", "type": "q4_k", "columns": 1, "repacked": False, "memory": "CPU", "depth": 0, "count": 2,
    "n_bytes": 1e6, "n_operations": 4e6, "seconds": 1e-3, "seconds_min": 1e-3, "gflop_per_s": 4.0, "gb_per_s": 1.0,
    "percent_of_bandwidth": 10.0, "percent_of_peak": 2.0, "samples_s": [1e-3],
}  # fmt: skip


def row(name: str, **values: object) -> KernelRow:
    return KernelRow(name=name, **(ROW | values))  # type: ignore[arg-type]


def test_matrices_of_a_model_are_one_line() -> None:
    found = Ceilings(read_bytes_per_s=1e10, fma_flops_per_s=1e11, int8_ops_per_s=2e11, source="")
    rows = [
        row("attn"),
        row("ffn", count=1, seconds=2e-3, percent_of_bandwidth=5.0),
        row("attn", repacked=True),
        row("attn", is_ours=True),
        row("one", kernel="dequantize", count=0, columns=0, n_operations=0.0, percent_of_peak=None),
    ]
    report = KernelReport(
        shape="s", device="d", host="h", n_threads=1, ggml="g", ceilings=found, rows=rows, skipped=[], excluded={}
    )
    (_, products), (_, dequantized) = kernel_tables(msgspec.to_builtins(report))
    assert products.header == ["type", "weights", "tokens", "time", "GFLOP/s", "GB/s", "% of bandwidth", "% of peak"]
    # 2 of 1 ms and one of 2 ms; 12 MFLOP and 3 MB in 4 ms; half the time at 10 %, half at 5 %.
    assert products.rows[0] == ["q4_k", "as in the file", "1", "4.00 ms", "3.00", "0.750", "7.5", "2.0"]
    assert [line[1] for line in products.rows[1:]] == ["repacked", "as in the file, aesedge's kernels"]
    assert dequantized.header == ["type", "time", "GB/s", "% of bandwidth"]
    assert dequantized.rows == [["q4_k", "1.00 ms", "1.00", "10"]]


def test_kernels_that_are_not_built_are_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AESEDGE_KERNELS", str(tmp_path))
    assert main(["bench", "--kernels", "--device", "cpu"]) == 2
    assert "the native benchmarks are not built for the cpu. In a clone, type: make kernels" in capsys.readouterr().err


def test_figures_that_were_altered_and_a_place_that_cannot_show_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = bench_results.result(kernels={"rows": 5})
    for show in (result_text, lambda result: render(result, "md")):
        with pytest.raises(UsageError, match="kernels cannot be read"):
            show(strange)
    with pytest.raises(UsageError, match="kernels cannot be read"):
        kernels.draw_roofline(strange, tmp_path / "a.png")
    monkeypatch.setattr(ceilings, "_SCRIPTS", tmp_path)  # as where it is installed from a wheel
    assert "left out: figures of kernels; a clone of aesedge shows them" in result_text(strange)
    with pytest.raises(UsageError, match="a clone of aesedge"):
        kernels.draw_roofline(strange, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
    assert main(["bench", "--kernels"]) == 2
    assert "in a clone of aesedge alone" in capsys.readouterr().err
    assert "lower bounds" in ceilings.measure_ceilings(1).source
