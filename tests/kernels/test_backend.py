"""The kernels as ggml's backend: products are those of ggml's own kernels, and nothing is taken that they cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import drawn_photo, open_tiny
from ggml_products import ACCELERATOR, CPU_DEVICE, TYPES, Product, device, quantized

from aesedge.bundle.bundle import POCKET, open_bundle
from aesedge.kernels import compiler, find_library, is_for, library
from aesedge.kernels.__main__ import main
from aesedge.llm import Context, LanguageModel, accelerator
from aesedge.llm.accelerator import accelerated, kernels, kernels_in_use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="no C++ compiler")
FASTEST = ("avx512", "avx-vnni", "avx2", "i8mm", "dotprod")


@pytest.fixture(autouse=True)
def kernels_are_there(built_kernels: Path) -> None:
    if not kernels().path:
        pytest.skip(kernels().reason)


@pytest.fixture
def ours() -> Iterator[int]:
    with accelerated(wanted=True):
        found = device(ACCELERATOR)
        assert found is not None
        yield found


def matrix(rows: int, columns: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


@pytest.mark.parametrize("path", ["", "scalar", "avx2"])
@pytest.mark.parametrize("name", TYPES)
def test_products_are_those_of_ggml(name: str, path: str, ours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AESEDGE_KERNELS_PATH", path)
    if path == "avx2" and kernels().path not in {"avx512", "avx-vnni", "avx2"}:
        pytest.skip("no x86")
    weights, cpu = quantized(TYPES[name], matrix(67, 512, 1)), device(CPU_DEVICE)
    assert cpu is not None
    for n_columns in (2, 8, 33, 100):
        product = Product(TYPES[name], weights, matrix(n_columns, 512, 2))
        mine, theirs = (product.compute(by, n_threads=2).astype(np.float64) for by in (ours, cpu))
        product.close()
        # Both multiply the same 8-bit numbers (of q4_0 and q8_0 ggml rounds ties and scales in other ways on Arm).
        limit = 1e-11 if name.endswith("K") else 1e-6
        assert np.square(mine - theirs).sum() < limit * np.square(theirs).sum(), n_columns


@pytest.mark.parametrize("name", TYPES)
def test_all_paths_give_the_same_bits(name: str, ours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    product = Product(TYPES[name], quantized(TYPES[name], matrix(67, 512, 1)), matrix(33, 512, 2))
    results = []
    for path in ("", "dotprod" if kernels().path in {"dotprod", "i8mm"} else "avx2", "scalar"):
        monkeypatch.setenv("AESEDGE_KERNELS_PATH", path)
        results.append(product.compute(ours, n_threads=2))
    product.close()
    assert np.isfinite(results[0]).all()
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize(
    ("type_", "weights", "x"),
    [
        ("Q4_K", (8, 256), (1, 256)),  # one column is decoding
        ("Q4_K", (8, 256), (4097, 256)),
        ("Q4_K", (2, 8, 256), (2, 4, 256)),  # batches
        ("Q4_K", (8, 256), (3, 4, 256)),  # broadcast
        ("Q4_0", (8, 256), (2, 2, 4, 256)),
    ],
)
def test_other_shapes_stay_ggmls(type_: str, weights: tuple[int, ...], x: tuple[int, ...], ours: int) -> None:
    flat = matrix(int(np.prod(weights[:-1])), weights[-1], 1)
    rows = quantized(TYPES[type_], flat)
    product = Product(TYPES[type_], rows.reshape(*weights[:-1], rows.shape[-1]), np.zeros(x, np.float32))
    assert not product.supported(ours)
    product.close()


def test_columns_that_do_not_lie_together_stay_ggmls(ours: int) -> None:
    product = Product(TYPES["Q8_0"], quantized(TYPES["Q8_0"], matrix(8, 64, 1)), matrix(4, 64, 2))
    assert product.supported(ours)
    product.field(product.x).nb[0] = 8
    assert not product.supported(ours)
    product.close()


def test_no_path_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with none of the instructions: llama.cpp computes, and it is said why."""
    monkeypatch.setenv("AESEDGE_KERNELS_PATH", "none")
    found = accelerator._load(find_library(accelerator._loaded_ggml()))
    assert (found.path, found.library) == ("", None)
    assert "processor" in found.reason
    with accelerated(wanted=True):
        assert device(ACCELERATOR) is None


def test_contexts_have_them_only_where_they_are_wanted(ours: int) -> None:
    assert device(ACCELERATOR) == ours
    with accelerated(wanted=True):  # a context within another's opening
        pass
    assert kernels_in_use(wanted=False) == ""
    assert kernels_in_use(wanted=True) in FASTEST


def test_nothing_stays_registered() -> None:
    with accelerated(wanted=True):
        assert device(ACCELERATOR) is not None
    assert device(ACCELERATOR) is None


def logits(
    n_batch: list[int], *, with_kernels: bool, n_threads: int = 1, flash_attention: bool = True
) -> npt.NDArray[np.float32]:
    """Prefill the same tokens in batches of these sizes; return the last logits."""
    path = open_bundle(POCKET).path("llm", "q4_k_m")
    with (
        LanguageModel(path, repack=False) as model,
        Context(
            model,
            n_ctx=512,
            n_seq_max=1,
            n_threads=n_threads,
            kernels=with_kernels,
            flash_attention=flash_attention,
        ) as context,
    ):
        tokens = np.random.default_rng(1).integers(300, 900, sum(n_batch)).tolist()
        for n in n_batch:
            found = context.prefill_tokens(0, tokens[:n])
            del tokens[:n]
        return found


def test_pocket_is_computed_with_them_and_hardly_differs() -> None:
    """Activations are rounded to 8 bits before every product, so that the last bit of a sum can move a logit by 1 %."""
    theirs = logits([64], with_kernels=False)
    changed = np.abs(logits([64], with_kernels=True) - theirs).max()
    halves = np.abs(logits([32, 32], with_kernels=False) - theirs).max()
    attention = np.abs(logits([64], with_kernels=False, flash_attention=False) - theirs).max()
    assert 0 < changed < max(halves, attention)  # what ggml's own choices change


def test_results_do_not_depend_on_threads() -> None:
    assert np.array_equal(logits([64], with_kernels=True), logits([64], with_kernels=True, n_threads=3))


def test_of_a_wheel_with_another_ggml_none_is_used(built_kernels: Path, tmp_path: Path) -> None:
    loaded = accelerator._loaded_ggml()
    own = find_library(loaded).path
    assert own is not None
    assert is_for(own, loaded)
    assert not is_for(own, "0.25.4 0c1e570")
    assert not is_for(tmp_path / "missing", loaded)
    found = find_library("0.99.0 abcdef0", folder=tmp_path)
    assert found.path is None
    assert "0.99.0 abcdef0" in found.reason
    assert not list(tmp_path.iterdir())


def test_a_file_for_another_ggml_under_the_right_name_is_replaced(
    tmp_path: Path, built_kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = find_library(accelerator._loaded_ggml()).path
    assert own is not None
    monkeypatch.setattr(library, "CLONE_FOLDER", tmp_path / "none")
    (tmp_path / own.name).write_bytes(library._MARK + b"0.1.0 0000000\0")
    monkeypatch.setenv("PATH", "")  # nothing to compile with
    monkeypatch.delenv("CXX", raising=False)
    found = find_library(accelerator._loaded_ggml(), folder=tmp_path)
    assert found.path is None
    assert "no C++ compiler" in found.reason


def test_a_compiler_that_fails_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "CLONE_FOLDER", tmp_path / "none")
    broken = tmp_path / "c++"
    broken.write_text(f"#!/bin/sh\necho x >> {tmp_path}/calls\necho 'fatal error: broken' >&2\nexit 1\n", "utf-8")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    for _ in range(2):
        found = find_library(accelerator._loaded_ggml(), folder=tmp_path / "cache")
        assert found.path is None
        assert "fatal error: broken" in found.reason
        n_calls = len((tmp_path / "calls").read_text("utf-8").splitlines())
    find_library(accelerator._loaded_ggml(), folder=tmp_path / "cache", retry=True)
    assert len((tmp_path / "calls").read_text("utf-8").splitlines()) > n_calls
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".failed"]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "CLONE_FOLDER", tmp_path / "none")
    (tmp_path / "file").touch()
    found = find_library(accelerator._loaded_ggml(), folder=tmp_path / "file" / "kernels")
    assert found.path is None
    assert str(tmp_path / "file") in found.reason


def test_scores_with_and_without_are_the_same_within_the_gate() -> None:
    scores = {}
    for with_kernels in (True, False):
        with open_tiny(open_bundle(POCKET).folder, gguf="q4_k_m", kernels=with_kernels, cache="0") as model:
            assert model.internals.plan.kernels == with_kernels
            scores[with_kernels] = [model.look(drawn_photo(seed, (300, 200))).score().score for seed in range(4)]
    assert max(abs(a - b) for a, b in zip(scores[True], scores[False], strict=True)) < 0.02


def test_without_a_compiler_make_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library, "CLONE_FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    main()
    assert "no C++ compiler" in capsys.readouterr().err
