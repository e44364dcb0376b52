"""What would be faster on a machine, and why."""

from __future__ import annotations

import dataclasses
import os
import platform
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from aesedge.bundle.bundle import Bundle, open_bundle
from aesedge.bundle.manifest import TokenPoint
from aesedge.config.options import Options
from aesedge.doctor import Hardware, Libraries, NoiseSource, advice
from aesedge.system.gpus import Gpu

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="lays out files of Linux, and scripts for a shell"),
    pytest.mark.usefixtures("short_looks"),
]
MACHINE = Hardware(
    "Linux 6", "x86_64", "a processor", 4, 8, 8, ["AVX", "AVX2"], 16 << 30, 12 << 30, [], is_virtual=False
)
BUILT = Libraries(
    llama_cpp_python="0.3.36",
    backends=["CPU"],
    devices=["CPU: a processor"],
    cpu_features=["AVX", "AVX2"],
    onnxruntime="1.32.0",
    onnxruntime_packages=["onnxruntime"],
    providers=["CPUExecutionProvider"],
)
H100 = Gpu("NVIDIA H100", "nvidia", 80 << 30, 79 << 30)


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return open_bundle(bundle_folder)


def advised(
    bundle: Bundle,
    machine: Hardware = MACHINE,
    built: Libraries = BUILT,
    disturbed: list[NoiseSource] | None = None,
    **options: Any,
) -> dict[str, tuple[str, str]]:
    found = advice(bundle, Options(threads=1, device="cpu", **options), machine, built, disturbed or [])
    return {one.what: (one.why, one.command) for one in found}


def with_(struct: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(struct, **changes)


def test_a_cuda_gpu_and_libraries_without_cuda(bundle: Bundle) -> None:
    found = advised(bundle, with_(MACHINE, gpus=[H100], instructions=["AVX", "AVX2", "AVX512"]))
    why, how = found["llama.cpp"]
    assert why.startswith("NVIDIA H100 is there")
    assert how.endswith("install-cuda") or "-DGGML_CUDA=on" in how
    why, how = found["ONNX Runtime"]
    assert "no CUDA" in why
    assert how.startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install ")
    assert "[cuda]" in how


def test_a_cuda_gpu_that_is_used_needs_nothing(bundle: Bundle) -> None:
    built = with_(
        BUILT,
        backends=["CUDA", "CPU"],
        devices=["CUDA0: NVIDIA H100", "CPU: a processor"],
        providers=["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    assert not {"llama.cpp", "ONNX Runtime"} & advised(bundle, with_(MACHINE, gpus=[H100]), built).keys()


def test_a_cuda_gpu_that_is_hidden(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    built = with_(BUILT, backends=["CUDA", "CPU"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert advised(bundle, with_(MACHINE, gpus=[H100]), built)["llama.cpp"][1] == "unset CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "driver" in advised(bundle, with_(MACHINE, gpus=[H100]), built)["llama.cpp"][0]


def test_a_gpu_without_its_driver(bundle: Bundle) -> None:
    found = advised(bundle, with_(MACHINE, gpus=[with_(H100, has_driver=False)]))
    assert "nvidia-smi" in found["GPU driver"][1]
    assert "ONNX Runtime" not in found


def test_other_gpus(bundle: Bundle) -> None:
    apple, amd = Gpu("Apple M4 GPU", "apple", 16 << 30, shares_ram=True), Gpu("AMD GPU", "amd", 16 << 30)
    assert "metal" in advised(bundle, with_(MACHINE, gpus=[apple]))["llama.cpp"][1].lower()
    metal = with_(BUILT, backends=["MTL", "CPU"])
    assert "llama.cpp" not in advised(bundle, with_(MACHINE, gpus=[apple]), metal)
    assert "GGML_VULKAN" in advised(bundle, with_(MACHINE, gpus=[amd]))["llama.cpp"][1]
    small = with_(amd, total_bytes=512 << 20)
    assert "llama.cpp" not in advised(bundle, with_(MACHINE, gpus=[small, Gpu("Intel GPU", "intel")]))


def test_a_wheel_for_machines_in_general(bundle: Bundle) -> None:
    machine = with_(MACHINE, instructions=["SSE3", "AVX", "AVX2", "AVX512", "AVX512_VNNI", "AVX512_BF16"])
    why, how = advised(bundle, machine)["llama.cpp"]
    assert "AVX512, AVX512_VNNI" in why
    assert "BF16" not in why  # changes no speed of quantized products
    assert "GGML_NATIVE=on" in how
    assert "--no-cache-dir" in how  # pip's cache would bring the same wheel back
    assert "llama.cpp" not in advised(bundle, machine, with_(BUILT, cpu_features=machine.instructions))
    assert "llama.cpp" not in advised(bundle, machine, with_(BUILT, cpu_features=[]))  # it does not tell


def test_why_there_are_no_matrix_kernels(bundle: Bundle) -> None:
    none = with_(BUILT, backends=["CPU"], kernels_missing="no C++ compiler was found")
    assert "no C++ compiler was found" in advised(bundle, built=none)["matrix kernels"][0]
    assert "matrix kernels" not in advised(bundle, built=with_(none, backends=["CUDA", "CPU"]))
    assert "matrix kernels" not in advised(bundle, built=BUILT)


def test_both_packages_of_onnx_runtime(bundle: Bundle) -> None:
    both = with_(BUILT, onnxruntime_packages=["onnxruntime", "onnxruntime-gpu"])
    assert "[cpu]" in advised(bundle, built=both)["ONNX Runtime"][1]
    assert "[cuda]" in advised(bundle, with_(MACHINE, gpus=[H100]), both)["ONNX Runtime"][1]


def test_image_tokens(bundle: Bundle) -> None:
    assert "image tokens" not in advised(bundle)  # it has one number of them
    tokens = with_(bundle.manifest.image_tokens, min=1, method="cells")
    able = dataclasses.replace(bundle, manifest=with_(bundle.manifest, image_tokens=tokens))
    assert "--quality PHOTOS" in advised(able)["image tokens"][1]

    def measured(drift: float) -> Bundle:
        point = TokenPoint(n=tokens.max - 1, score_drift=drift, worst_score_drift=drift, nll_change=0.0, n_photos=9)
        return dataclasses.replace(bundle, manifest=with_(bundle.manifest, image_tokens=with_(tokens, curve=[point])))

    why, how = advised(measured(0.125))["image tokens"]
    assert "0.12 of 10 points" in why
    assert "--image-tokens auto" in how
    assert "image tokens" not in advised(measured(9.0))
    assert "image tokens" not in advised(measured(0.125), image_tokens=tokens.max)


def test_tuning(bundle: Bundle) -> None:
    assert f"aesedge tune --bundle {bundle.name} --device cpu" in advised(bundle)["tuning"][1]
    assert "tuning" not in advised(bundle, tuned=False)


def test_vision_in_int8(bundle: Bundle) -> None:
    assert "vision in int8" not in advised(bundle)  # small: milliseconds in any precision
    manifest = bundle.manifest
    large = [with_(f, n_bytes=1 << 30) if f.role == "vision" else f for f in manifest.files if f.type != "int8"]

    def made_by(source: dict[str, str]) -> Bundle:
        changed = with_(manifest, files=large, source=with_(manifest.source, **source))
        return dataclasses.replace(bundle, manifest=changed)

    exported = made_by({"checkpoint": "my/checkpoint", "layout": "hf-llava"})
    assert advised(exported)["vision in int8"][1] == "aesedge export my/checkpoint --vision fp32,int8"
    imported = made_by({"checkpoint": "a b.gguf + mmproj.gguf", "layout": "llama.cpp pair"})
    assert advised(imported)["vision in int8"][1] == 'aesedge import "a b.gguf" mmproj.gguf --vision fp32,int8'
    assert advised(made_by({"checkpoint": "random weights", "layout": ""}))["vision in int8"][1] == ""


def test_memory() -> None:
    pocket = open_bundle("pocket")
    assert "memory" not in advised(pocket, gguf="q4_k_m")
    why, how = advised(pocket, gguf="q4_k_m", memory="10MB")["memory"]
    assert why.startswith("q8_0, which is nearer to the original, needs ")
    assert (why.endswith("--memory allows 10 MB"), how) == (True, "")
    assert "memory" not in advised(pocket, gguf="q8_0", memory="10MB")  # there is no better one
    swaps = [NoiseSource("swapping", "9.0 MB/s", disturbs=True)]
    assert advised(pocket, disturbed=swaps)["memory"][1] == "aesedge run --bundle pocket --gguf q4_k_m"


@pytest.mark.skipif(platform.system() != "Linux", reason="commands of Linux")
def test_power_saving(bundle: Bundle) -> None:
    saving = [
        NoiseSource("energy preference", "power", disturbs=True),
        NoiseSource("power profile", "low-power", disturbs=True),
        NoiseSource("battery", "runs on it", disturbs=True),
        NoiseSource("governor", "performance", disturbs=False),
    ]
    found = advice(bundle, Options(threads=1, device="cpu"), MACHINE, BUILT, saving)
    assert [one.command for one in found if one.what == "power saving"] == ["powerprofilesctl set performance", ""]


def test_a_plan_that_cannot_be_made_leaves_the_machines_advice(bundle: Bundle) -> None:
    machine = with_(MACHINE, instructions=["AVX512"])
    found = advice(bundle, Options(image_tokens=10**6), machine, BUILT)
    assert [one.what for one in found] == ["llama.cpp"]
