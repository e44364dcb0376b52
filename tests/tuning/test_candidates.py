"""Which changes of the settings are tried on which hardware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tuning_stand import HARDWARE, START

from aesedge.tuning.candidates import (
    Candidate,
    Conditions,
    is_possible,
    language_candidates,
    most_precise,
    usable,
    vision_candidates,
)


def values_of(changes: list[Candidate], field: str) -> list[Any]:
    return [change.values[field] for change in changes if field in change.values]


def test_candidates_are_of_this_hardware() -> None:
    start = replace(START, threads=8, threads_batch=8)
    changes = language_candidates(start, 576, HARDWARE)
    assert values_of(changes, "threads_batch") == values_of(changes, "threads") == [16, 4]
    assert values_of(changes, "repack") == [True]
    assert values_of(changes, "gpu_layers") == []
    assert values_of(changes, "n_ubatch") == [512, 128]
    assert values_of(language_candidates(start, 64, HARDWARE), "n_ubatch") == []  # one batch in any case
    assert values_of(language_candidates(start, 576, HARDWARE._replace(has_gpu=True)), "gpu_layers") == [0]
    assert values_of(language_candidates(start, 576, HARDWARE._replace(repacks=False)), "repack") == []


def test_matrix_kernels_are_compared_where_they_have_something_to_do() -> None:
    here = HARDWARE._replace(has_kernels=True)
    assert values_of(language_candidates(START, 576, here), "kernels") == [False]
    assert values_of(language_candidates(replace(START, kernels=False), 576, here), "kernels") == [True]
    assert values_of(language_candidates(replace(START, repack=True), 576, here), "kernels") == []
    assert values_of(language_candidates(START, 576, HARDWARE), "kernels") == []


def test_two_cores_have_few_candidates() -> None:
    changes = language_candidates(START, 576, HARDWARE._replace(n_logical=2, n_physical=2))
    assert (values_of(changes, "threads_batch"), values_of(changes, "threads")) == ([], [1])


@pytest.mark.parametrize("n_cores", [1, 2, 4, 16])
def test_small_model_never_gets_all_cores(n_cores: int) -> None:
    machine = Conditions(n_cores, n_cores, has_gpu=False, is_small=True, repacks=False)
    start = replace(START, threads=1, threads_batch=1, threads_vision=1)
    changes = [
        *language_candidates(start, 196, machine),
        *vision_candidates(start, ["fp32"], "CPUExecutionProvider", machine),
    ]
    for field in ("threads", "threads_batch", "threads_vision"):
        assert all(n < n_cores for n in values_of(changes, field))


def test_busy_machine_has_its_threads_left_as_they_are() -> None:
    changes = language_candidates(START, 576, HARDWARE._replace(is_busy=True))
    assert {change.name for change in changes} == {"weight repacking", "flash attention", "KV type", "n_ubatch"}
    assert vision_candidates(START, ["fp32"], "CPUExecutionProvider", HARDWARE._replace(is_busy=True)) == []


def test_precisions_are_those_that_the_provider_is_fast_at() -> None:
    types = ["int8", "fp16", "fp32"]
    assert usable(types, "CPUExecutionProvider") == ["int8", "fp32"]
    assert usable(types, "CUDAExecutionProvider") == ["fp16", "fp32"]
    assert usable(["fp16"], "CPUExecutionProvider") == ["fp16"]
    assert most_precise(types) == "fp32"
    assert most_precise(["int8"]) == "int8"


def test_8_bit_keys_need_flash_attention() -> None:
    assert not is_possible(replace(START, kv_type="q8_0", flash_attention=False))
    assert is_possible(START)
