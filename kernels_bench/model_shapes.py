"""Write the shapes of a model's matrices and heads into a file, as those in kernels_bench/shapes."""
# ruff: noqa: INP001 - a script's neighbour, no package

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.bundle.gguf_tensors import read_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = Path(__file__).resolve().parent
_NAMES = {"attn_q": "attn", "attn_k": "attn_kv", "attn_v": "attn_kv", "attn_output": "attn", "ffn_gate": "ffn_up"}


def write_shapes(gguf: Path, heads: Sequence[str], path: Path) -> None:
    """Write the shapes of a model; those of its tower are taken from the shipped file of the same model.

    Args:
        gguf: the language model.
        heads: numbers of heads, of heads for keys and values, of their width, and of layers.
        path: the file.
    """
    found: Counter[tuple[str, int, int]] = Counter()
    for weight in read_weights(gguf):
        if weight.is_matrix:
            part = re.sub(r"^blk\.\d+\.|\.weight$", "", weight.name)
            found[_NAMES.get(part, part), weight.n_rows, weight.n_columns] += 1
    # Without grouped queries keys and values are as wide as the rest: one line, as in the shipped files.
    square = {(rows, columns) for name, rows, columns in found if name == "attn"}
    for key in [key for key in found if key[0] == "attn_kv" and key[1:] in square]:
        found["attn", key[1], key[2]] += found.pop(key)
    lines = [f"language {name} {rows} {columns} {n}" for (name, rows, columns), n in found.items()]
    lines.append(f"attention heads {' '.join(heads)}")
    path.write_text("\n".join([*lines, *_tower(lines)]) + "\n", encoding="utf-8")


def _tower(language: list[str]) -> list[str]:
    """Return the lines of a shipped file's tower, where its language model is this one."""
    for path in sorted((_HERE / "shapes").glob("*.txt")):
        shipped = [" ".join(line.partition("#")[0].split()) for line in path.read_text(encoding="utf-8").splitlines()]
        if {line for line in shipped if line and not line.startswith("vision")} == set(language):
            return [line for line in shipped if line.startswith("vision")]
    return []
