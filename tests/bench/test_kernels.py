"""The native benchmarks, what reads them and what is drawn of them.

Tests that run the programs are skipped where those are not built. `make kernels` builds them; CI does before it tests.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import msgspec
import native_programs
import pytest
from commands import run
from kernel_report import KernelReport, run_kernels, tensor_types
from native_programs import installed_ggml, native_folder, require_installed_ggml, run_native

from aesedge.bench.ceilings import measure_ceilings
from aesedge.bundle.bundle import open_bundle
from aesedge.errors import AesedgeError, UsageError
from aesedge.llm.accelerator import kernels

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def programs() -> Path:
    folder = native_folder()
    if folder is None or not (folder / "matmul").is_file():
        pytest.skip("the native benchmarks are not built: make kernels")
    return folder


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    path = tmp_path / "small.txt"
    path.write_text(
        "# one of each\nlanguage middle 2048 1024 3\nattention heads 4 2 64 2 # grouped\nvision out 192 192 5 197\n"
    )
    return path


# The files of shapes


def shapes_of(name: str) -> dict[tuple[str, str], tuple[int, ...]]:
    lines = (ROOT / "kernels_bench" / "shapes" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    words = [line.split("#")[0].split() for line in lines]
    return {(kind, name_): tuple(map(int, numbers)) for kind, name_, *numbers in filter(None, words)}


@pytest.mark.parametrize("name", ["llava-1.5-7b", "llava-1.5-13b", "pocket"])
def test_shapes_are_those_of_the_models(name: str) -> None:
    from aesedge_export.random_weights.shapes import SHAPES

    shape, tower = SHAPES[name], SHAPES[name].tower
    n_patches = (tower.image_size // tower.patch_size) ** 2
    language = {
        ("language", "attn"): (shape.n_embd, shape.n_embd, 4 * shape.n_layer),
        ("language", "ffn_up"): (shape.n_ff, shape.n_embd, 2 * shape.n_layer),
        ("language", "ffn_down"): (shape.n_embd, shape.n_ff, shape.n_layer),
        ("language", "output"): (shape.n_vocab, shape.n_embd, 1),
        ("attention", "heads"): (shape.n_head, shape.n_head_kv, shape.head_dim, shape.n_layer),
    }
    vision = {
        ("vision", "qkv"): (3 * tower.hidden, tower.hidden, tower.n_layers, n_patches + 1),
        ("vision", "out"): (tower.hidden, tower.hidden, tower.n_layers, n_patches + 1),
        ("vision", "fc1"): (tower.intermediate, tower.hidden, tower.n_layers, n_patches + 1),
        ("vision", "fc2"): (tower.hidden, tower.intermediate, tower.n_layers, n_patches + 1),
        ("vision", "projector_1"): (shape.n_embd, tower.hidden, 1, n_patches),
        ("vision", "projector_2"): (shape.n_embd, shape.n_embd, 1, n_patches),
    }
    found = shapes_of(name)
    if name == "pocket":  # whose tower is no CLIP
        found = {line: numbers for line, numbers in found.items() if line[0] != "vision"}
        vision = {}
    assert found == language | vision


def test_pocket_s_tower_has_these_pointwise_convolutions() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra [export]")
    graph = onnx.load(open_bundle("pocket").path("vision", "fp32")).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    # Fixed filters of the pixels' statistics are constants, and small.
    kernels = [weights[node.input[1]] for node in graph.node if node.op_type == "Conv" and node.input[1] in weights]
    inside = Counter(kernel[:2] for kernel in kernels if kernel[2:] == (1, 1))
    listed: Counter[tuple[int, ...]] = Counter()
    for (kind, _), numbers in shapes_of("pocket").items():
        if kind == "vision":
            listed[numbers[:2]] += numbers[2]
    assert listed == inside


# The programs


def matmul(programs: Path, shapes: Path, types: str, columns: str, seconds: str) -> list[str | Path]:
    of = ["--types", types, "--columns", columns, "--seconds", seconds, "--threads", "1"]
    return [programs / "matmul", "--shapes", shapes, *of]


def test_figures_follow_from_the_samples(programs: Path, shapes: Path) -> None:
    command = matmul(programs, shapes, "q4_k,q8_0", "1,3", "0.01")
    lines: list[str] = []
    report = run_native([*command, "--ceilings", "read=10,dot_int8=100"], timeout_s=120, progress=lines.append)
    assert {"bench", "host", "device", "n_threads", "ggml_version", "ggml_commit", "excluded"} <= report.keys()
    assert report["ceilings"]["source"] == "given by the caller"
    assert any(line.startswith("middle") for line in lines)
    plain = [row for row in report["rows"] if not row["repacked"]]
    assert [(row["type"], row["columns"]) for row in plain] == [("q4_k", 1), ("q4_k", 3), ("q8_0", 1), ("q8_0", 3)]
    for row in report["rows"]:
        assert row["n_operations"] == 2 * 2048 * 1024 * row["columns"]
        assert len(row["samples_s"]) >= 3
        assert row["min_s"] == min(row["samples_s"])
        assert row["percent_of_bandwidth"] == pytest.approx(100 * row["n_bytes"] / row["median_s"] / 10e9, rel=1e-3)
        assert row["percent_of_peak"] == pytest.approx(100 * row["n_operations"] / row["median_s"] / 100e9, rel=1e-3)


def test_no_kernel_is_beyond_the_ceilings(programs: Path, shapes: Path) -> None:
    for _ in range(3):  # another program may take the processor just while the ceilings are measured
        rows = run_native(matmul(programs, shapes, "q4_k", "1,64", "0.1"), timeout_s=120)["rows"]
        highest = max(max(row["percent_of_bandwidth"], row["percent_of_peak"]) for row in rows)
        if 0 < highest <= 120:
            return
    pytest.fail(f"{highest:.0f} % of a ceiling")


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("matmul", ["--types", "q9_9"], "unknown type 'q9_9'"),
        ("matmul", ["--device", "CUDA7"], "no device 'CUDA7' on this machine; there is: CPU"),
        ("matmul", ["--shapes", "/nowhere/a.txt"], "no file of shapes /nowhere/a.txt"),
        ("matmul", ["--only", "attn", "--shapes", "SMALL"], "--only knows middle, not 'attn'"),
        ("matmul", ["--columns", "0"], "whole number of at least 1, not '0'"),
        ("matmul", ["--repack", "maybe"], "on, off or both, not 'maybe'"),
        ("matmul", ["--ceilings", "read=fast"], "number above 0, not 'fast'"),
        ("matmul", ["--speed"], "unknown option '--speed'"),
        ("attention", ["--forms", "q4_0"], "not 'q4_0'"),
        ("dequantize", ["--types", "f64"], "unknown type 'f64'"),
        ("bandwidth", ["--threads", "many"], "not 'many'"),
        ("bandwidth", ["--ops", "write"], "--ops knows read, copy, triad, not 'write'"),
    ],
)
def test_wrong_calls_end_with_2_and_say_why(
    programs: Path, shapes: Path, program: str, arguments: list[str], message: str
) -> None:
    done = run([programs / program, *(shapes if part == "SMALL" else part for part in arguments)])
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("language a 1 2", "a line is 'language NAME' and 3 numbers"),
        ("tongue a 1 2 3", "a line is 'language NAME' and 3 numbers"),
        ("language a 1 two 3", "not 'two'"),
        ("attention a 5 2 64 1", "heads are no multiple of KV heads"),
        ("language a 99999999 1 1", "beyond any model"),
    ],
)
def test_wrong_line_of_a_file_of_shapes_is_named(programs: Path, tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(f"# comment\n\n{line}\n")
    done = run([programs / "matmul", "--shapes", path])
    assert done.returncode == 2
    assert f"{path}:3" in done.stderr
    assert message in done.stderr


def test_vision_products_are_numpys(shapes: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    script: list[str | Path] = [sys.executable, ROOT / "kernels_bench" / "vision_products.py", "--shapes", shapes]
    done = run([*script, "--check"])
    assert done.returncode == 0, done.stderr
    report = run_native([*script, "--threads", "1", "--seconds", "0.01", "--ceilings", "dot_int8=100"], timeout_s=120)
    assert [(row["type"], row["percent_of_peak"] is None) for row in report["rows"]] == [
        ("fp32", True),
        ("int8", False),
    ]
    wrong = run([*script, "--types", "int4"])
    assert wrong.returncode == 2
    assert "unknown type 'int4'" in wrong.stderr


# What reads them


def test_run_kernels_measures_everything(programs: Path, shapes: Path) -> None:
    *parts, report = run_kernels(str(shapes), ["Q4_K_M"], [3], n_threads=1, seconds=0.1)
    lengths = [len(part.rows) for part in parts]  # whoever stops it has these
    assert lengths == sorted(set(lengths))
    assert lengths[0] > 0
    assert {row.kernel for row in report.rows} >= {"matmul", "attention", "dequantize"}
    assert {row.type for row in report.rows if row.kernel == "matmul"} == {"q4_k", "q6_k"}
    for own in (True, False):  # aesedge's kernels beside ggml's, where this machine has them
        types = {row.type for row in report.rows if row.kernel == "matmul" and row.is_ours == own}
        assert types == ({"q4_k", "q6_k"} if kernels().path or not own else set())
    assert report.ggml == installed_ggml()
    assert report.ceilings.int8_ops_per_s is not None
    for row in report.rows:
        if row.kernel == "matmul":
            assert row.percent_of_peak == pytest.approx(1e11 * row.gflop_per_s / report.ceilings.int8_ops_per_s)
    assert report.shape == "small"
    assert msgspec.json.decode(msgspec.json.encode(report), type=KernelReport) == report


def test_unknown_type_is_a_wrong_call(programs: Path) -> None:
    with pytest.raises(UsageError, match="unknown type 'q9_k'"):
        list(run_kernels("pocket", ["q9_k"], [1], n_threads=1))


def test_what_is_not_built_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AESEDGE_KERNELS", str(tmp_path))
    assert native_folder() is None
    with pytest.raises(AesedgeError, match="make kernels"):
        list(run_kernels("pocket", ["q4_k_m"], [1], n_threads=1))


def test_built_without_ggml_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bandwidth").touch()
    monkeypatch.setenv("AESEDGE_KERNELS", str(tmp_path))
    with pytest.raises(AesedgeError, match="without llama-cpp-python's ggml"):
        list(run_kernels("pocket", ["q4_k_m"], [1], n_threads=1))


def test_another_ggml_than_the_installed_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_programs, "installed_ggml", lambda: "9.9.9 abcdef")
    with pytest.raises(AesedgeError, match=r"run ggml 0\.1 fedcba, .* has 9\.9\.9 abcdef.*make kernels"):
        require_installed_ggml({"ggml_version": "0.1", "ggml_commit": "fedcba"})


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("import sys; sys.exit('no such shape')", AesedgeError, "exit code 1.*no such shape"),
        ("import sys; print('no such type', file=sys.stderr); sys.exit(2)", UsageError, "no such type"),
        ("print('{}'); print('all is well')", AesedgeError, "its last line is no JSON object"),
        ("import time; time.sleep(60)", AesedgeError, "took longer than 1 s"),
    ],
)
def test_programs_that_fail_are_errors(script: str, error: type[AesedgeError], message: str) -> None:
    with pytest.raises(error, match=message):
        run_native([sys.executable, "-c", script], timeout_s=1 if "sleep" in script else 60)


def test_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AesedgeError, match="does not start"):
        run_native([tmp_path / "matmul"], timeout_s=1)


def test_types_of_files_are_types_of_matrices() -> None:
    assert tensor_types("Q4_K_M") == ("q4_k", "q6_k")
    assert tensor_types("q8_0") == ("q8_0",)


def test_ceilings_are_measured_by_the_programs(programs: Path) -> None:
    found = measure_ceilings(1)
    assert found.int8_ops_per_s is not None
    assert 1e8 < (found.read_bytes_per_s or 0) < 1e13
    assert 1e8 < (found.fma_flops_per_s or 0) < 1e14
    assert found.source.startswith("kernels_bench, 1 threads: bandwidth (read), peak (")


def test_ceilings_without_the_programs_are_lower_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AESEDGE_KERNELS", str(tmp_path))
    found = measure_ceilings(1)
    assert min(found.read_bytes_per_s or 0, found.fma_flops_per_s or 0) > 1e8
    assert found.int8_ops_per_s is None
    assert "lower bounds" in found.source
    found = measure_ceilings(1, "gpu")
    assert found.read_bytes_per_s is found.fma_flops_per_s is found.int8_ops_per_s is None
    assert "PRESET=cuda" in found.source
