"""ONNX Runtime's and llama.cpp's CUDA builds on a machine without a card, or without CUDA's libraries."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import onnxruntime
import pytest

from aesedge.errors import ProviderError
from aesedge.system.cuda import missing_cuda_library, no_cuda_gpu
from aesedge.vision import providers
from aesedge.vision.providers import choose_provider

if TYPE_CHECKING:
    from pathlib import Path

COMPILER = shutil.which("cc") or ""
CUDA_BUILD = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
NO_DRIVER = "NVIDIA's driver is not installed"
needs_compiler = pytest.mark.skipif(sys.platform != "linux" or not COMPILER, reason="needs Linux and a C compiler")
without_gpu = pytest.mark.skipif(not no_cuda_gpu(), reason="there is a CUDA GPU here")


@without_gpu
def test_auto_takes_the_cpu_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    providers._warn_no_cuda.cache_clear()
    with caplog.at_level(logging.WARNING, "aesedge"):
        found = [choose_provider(CUDA_BUILD, "auto") for _ in range(3)]
    assert found == ["CPUExecutionProvider"] * 3
    said = "ONNX Runtime's CUDA build runs the vision tower on the CPU: %s. --device cpu says that it is wanted"
    assert [r.getMessage() for r in caplog.records] == [said % no_cuda_gpu()]


@without_gpu
def test_cuda_names_what_is_missing() -> None:
    with pytest.raises(ProviderError, match=f"ONNX Runtime cannot use CUDA: {no_cuda_gpu()}; --device cpu"):
        choose_provider(CUDA_BUILD, "cuda")


@without_gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
def test_the_graph_that_tries_cuda_is_one() -> None:
    session = onnxruntime.InferenceSession(providers._IDENTITY, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": [3.0]})[0].tolist() == [3.0]


@pytest.mark.parametrize(
    ("message", "library"),
    [
        ("Failed to load shared library: libcublas.so.13: cannot open shared object file: No such file",
         "libcublas.so.13"),
        ("libcudart.so.12: cannot open shared object file", "libcudart.so.12"),
        ("libnvrtc.so.13: cannot open shared object file", "libnvrtc.so.13"),
        ("libggml.so: cannot open shared object file", None),
        ("libc.musl-x86_64.so.1: cannot open shared object file", None),
        ("/x/libcublas.so.13: undefined symbol: cublasCreate", None),
    ],
)  # fmt: skip
def test_which_library_a_loader_misses(message: str, library: str | None) -> None:
    assert missing_cuda_library(message) == library


def build(folder: Path, output: str, *options: str, source: str = "int nothing(void) { return 0; }") -> None:
    (folder / "source.c").write_text(f"{source}\n")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", output, "source.c", *options], cwd=folder, check=True)


def said_with_llama_cpp_of(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "aesedge", "score", "photo.jpg"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "LLAMA_CPP_LIB_PATH": str(folder)},
    )
    return done.stderr


@needs_compiler
@pytest.mark.parametrize(
    ("library", "said"),
    [
        # A version that no machine has: one with the CUDA toolkit finds libcublas.so.13 without our help.
        ("libcublas.so.0", "libcublas.so.0 is missing: install CUDA's libraries with pip install 'aesedge[cuda]'"),
        pytest.param(
            "libcuda.so.1",
            "NVIDIA's driver only, which is not installed: install it, or llama.cpp for the CPU",
            marks=pytest.mark.skipif(no_cuda_gpu() != NO_DRIVER, reason="NVIDIA's driver is installed"),
        ),
    ],
)
def test_llama_cpp_without_a_library_of_cuda(tmp_path: Path, library: str, said: str) -> None:
    build(tmp_path, library, f"-Wl,-soname,{library}")
    build(tmp_path, "libllama.so", "-Wl,--no-as-needed", "-L.", f"-l:{library}")
    (tmp_path / library).unlink()
    stderr = said_with_llama_cpp_of(tmp_path)
    assert said in stderr
    assert "Traceback" not in stderr


@needs_compiler
def test_a_driver_that_sees_no_gpu(tmp_path: Path) -> None:
    build(tmp_path, "libcuda.so.1", source="int cuInit(unsigned flags) { return 100; }")  # CUDA_ERROR_NO_DEVICE
    done = subprocess.run(
        [sys.executable, "-c", "from aesedge.system.cuda import no_cuda_gpu; print(no_cuda_gpu())"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
    )
    assert done.stdout == "NVIDIA's driver sees no GPU\n", done.stderr


@needs_compiler
def test_a_llama_cpp_of_another_version(tmp_path: Path) -> None:
    build(tmp_path, "libllama.so")
    said = said_with_llama_cpp_of(tmp_path)
    assert "llama.cpp cannot be loaded" in said
    assert "install it again" in said
    assert "Traceback" not in said
