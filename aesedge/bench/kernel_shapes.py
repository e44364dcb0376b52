"""The matrices of a bundle's language model as a file of shapes for the native kernels; knows names, times nothing."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from aesedge.bench.native import CLONE
from aesedge.memory.header import read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.engine import Model

_SHIPPED = CLONE / "kernels_bench" / "shapes"
_NAMES = {"attn_q": "attn", "attn_k": "attn_kv", "attn_v": "attn_kv", "attn_output": "attn", "ffn_gate": "ffn_up"}


def shapes_file(model: Model, folder: Path) -> Path:
    """Write the shapes of an open model; those of its tower are taken from the shipped file of the same model.

    Args:
        model: the model.
        folder: where the file is written.
    """
    llm = model.llm
    weights = read_weights(model.bundle.path("llm", model.gguf))
    found: Counter[tuple[str, int, int]] = Counter()
    for weight in weights:
        if weight.is_matrix:
            part = re.sub(r"^blk\.\d+\.|\.weight$", "", weight.name)
            found[_NAMES.get(part, part), weight.n_rows, weight.n_columns] += 1
    # Without grouped queries keys and values are as wide as the rest: one line, as in the shipped files.
    square = {(rows, columns) for name, rows, columns in found if name == "attn"}
    for key in [key for key in found if key[0] == "attn_kv" and key[1:] in square]:
        found["attn", key[1], key[2]] += found.pop(key)
    lines = [f"language {name} {rows} {columns} {n}" for (name, rows, columns), n in found.items()]
    n_layer, n_head, n_head_kv = llm.n_layer, llm.n_head, llm.n_head_kv
    lines.append(f"attention heads {n_head} {n_head_kv} {llm.n_embd // n_head} {n_layer}")
    path = folder / f"{model.bundle.name}.txt"
    path.write_text("\n".join([*lines, *_tower(lines)]) + "\n", encoding="utf-8")
    return path


def _tower(language: list[str]) -> list[str]:
    """Return the lines of a shipped file's tower, where its language model is this one."""
    for path in sorted(_SHIPPED.glob("*.txt")):
        shipped = [" ".join(line.partition("#")[0].split()) for line in path.read_text(encoding="utf-8").splitlines()]
        if {line for line in shipped if line and not line.startswith("vision")} == set(language):
            return [line for line in shipped if line.startswith("vision")]
    return []
