"""How many layers of a model are put on a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aesedge.errors import ProviderError
from aesedge.llm import gpu_offload
from aesedge.llm.gpu_offload import ALL_LAYERS, GpuDevice, LayerSizes, bytes_on_gpu, gpu_layers_for, layers_that_fit

GB, MIB = 10**9, 1 << 20
SIZES = LayerSizes(layers=[100 * MIB] * 32, output=150 * MIB, compute=200 * MIB)


@pytest.mark.parametrize(
    ("usable_mib", "n_layers"),
    [
        ([3550], ALL_LAYERS),
        ([3549], 32),  # all but the first layer
        ([3450], 32),
        ([3449], 31),
        ([450], 2),
        ([350], 1),  # the head alone
        ([349], 0),
        ([0], 0),
        ([2000, 1750], ALL_LAYERS),  # each has compute buffers of its own
        ([2000, 1749], 32),
    ],
)
def test_layers_that_fit_a_gpu(usable_mib: list[int], n_layers: int) -> None:
    assert layers_that_fit(SIZES, [n * MIB for n in usable_mib]) == n_layers


def test_layers_on_a_gpu_are_added_up_from_the_last() -> None:
    sizes = LayerSizes(layers=[1, 10, 100], output=1000, compute=10000)
    found = [bytes_on_gpu(sizes, n) for n in (0, 1, 2, 3, 4, 9, ALL_LAYERS)]
    assert found == [0, 11000, 11100, 11110, 11111, 11111, 11111]


def test_margin_of_a_gpu() -> None:
    assert GpuDevice("a", 10 * GB, 12 * GB).usable_bytes == pytest.approx(9.2 * GB)
    assert GpuDevice("a", 1000 * MIB, 12 * GB).usable_bytes == 700 * MIB
    assert GpuDevice("a", 100 * MIB, 12 * GB).usable_bytes == 0


def test_auto_takes_the_free_memory_of_the_gpus_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = GpuDevice("CUDA0", 2000 * MIB, 8 * GB)
    library = SimpleNamespace(llama_supports_gpu_offload=lambda: True)
    monkeypatch.setattr(gpu_offload.binding, "load", lambda: library)
    monkeypatch.setattr(gpu_offload, "gpu_devices", lambda: [gpu])
    assert gpu_layers_for("auto", "auto", lambda: SIZES) == 14  # 1700 MiB: compute, head and 13 layers
    assert gpu_layers_for("auto", "auto", lambda: SIZES, reserved_bytes=1000 * MIB) == 4
    assert gpu_layers_for("auto", 7, lambda: SIZES) == 7
    assert gpu_layers_for("cpu", "auto", lambda: SIZES) == 0
    monkeypatch.setattr(gpu_offload, "gpu_devices", list)
    assert gpu_layers_for("auto", "auto", lambda: SIZES) == 0


@pytest.mark.parametrize(
    ("backends", "why"),
    [(["CPU"], "was built for the CPU only"), (["CUDA", "CPU"], "was built for CUDA and sees no GPU")],
)
def test_gpu_that_this_llama_cpp_cannot_use_is_refused(
    monkeypatch: pytest.MonkeyPatch, backends: list[str], why: str
) -> None:
    library = SimpleNamespace(llama_supports_gpu_offload=lambda: False)
    monkeypatch.setattr(gpu_offload.binding, "load", lambda: library)
    monkeypatch.setattr(gpu_offload, "llama_build", lambda: SimpleNamespace(backends=backends))
    assert gpu_layers_for("auto", "auto", lambda: SIZES) == 0
    with pytest.raises(ProviderError, match=why):
        gpu_layers_for("auto", 3, lambda: SIZES)
