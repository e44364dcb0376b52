"""Every tensor gets the type that llama.cpp's quantizer gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llama_quantize
import narrow_llama
import numpy as np
import pytest
from aesedge_export.language.gguf_output import plan_layout
from aesedge_export.language.gguf_source import GgufSource
from aesedge_export.language.tensor_types import ASKED_TYPES, parse_type

from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

# Where the rules change: no layer in the first eighth or sixteenth, one, several; 32 is Vicuna 7B, 80 a 70B.
MODELS = (
    {"n_layers": 1, "n_gqa": 8},
    {"n_layers": 7, "n_gqa": 4, "tied": True},
    {"n_layers": 9, "n_gqa": 1, "n_embd": 96, "n_ff": 100, "tied": True},
    {"n_layers": 16, "n_gqa": 2, "n_embd": 288, "n_ff": 256},
    {"n_layers": 32, "n_gqa": 1},
    {"n_layers": 80, "n_gqa": 8},
)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model["n_layers"]))
def test_types_are_those_of_llama_cpp(tmp_path: Path, model: dict[str, Any], weighted: bool) -> None:
    path = narrow_llama.write(tmp_path / "f32.gguf", n_rows=2, **{"n_ff": 256, **model})
    # Which matrices have an entry does not matter for the types, only whether there is a matrix at all.
    importance = {"not.there": np.ones(1)} if weighted else None
    types = ASKED_TYPES if model["n_layers"] < 80 else ("Q4_K_M", "Q3_K_M", "Q2_K")
    jobs = [llama_quantize.Job(path, tmp_path / t, GGUF_TYPES[t].ftype, importance) for t in types]
    llama_quantize.quantize_with_llama(jobs)
    source = GgufSource(path)
    for job in jobs:
        expected = {name: kind for name, (kind, _, _) in llama_quantize.tensors(job.target).items()}
        assert plan_layout(source, job.target.name, weighted=weighted).types == expected, job.target.name


def test_a_70b_differs_from_a_65b(tmp_path: Path) -> None:
    # Else the test above would not look at the rule of 80 layers with shared key-value heads.
    types = [
        plan_layout(
            GgufSource(narrow_llama.write(tmp_path / f"{n_gqa}.gguf", n_layers=80, n_gqa=n_gqa)),
            "Q4_K_S",
            weighted=False,
        ).types
        for n_gqa in (1, 8)
    ]
    assert [found["blk.50.attn_v.weight"] for found in types] == ["Q4_K", "Q5_K"]


@pytest.mark.parametrize("text", ["q4_k_m", " Q4_K_M ", "Q4_k_M"])
def test_types_are_read_in_any_case(text: str) -> None:
    assert parse_type(text) == "Q4_K_M"


@pytest.mark.parametrize("text", ["", "q4_k", "f32", "Q3_K_XXL"])
def test_an_unknown_type_lists_those_there_are(text: str) -> None:
    with pytest.raises(UsageError, match=r"there are F16, BF16, Q8_0, .*Q4_K_M.*, Q2_K$"):
        parse_type(text)
