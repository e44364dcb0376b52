"""Llama models as GGUF files whose matrices have a few rows only: all that quantizing looks at, in milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

N_ROWS = 5  # odd, so that pieces of rows do not come out even
HEADS = 8


def write(
    path: Path,
    *,
    n_layers: int = 2,
    n_embd: int = 256,
    n_ff: int = 512,
    n_gqa: int = 1,
    tied: bool = False,
    precision: str = "F32",
    n_rows: int = N_ROWS,
) -> Path:
    """Write a model; its matrices are [n_rows, n_in], which only loading would refuse."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("narrow")
    writer.add_block_count(n_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // n_gqa)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(0)
    writer.add_array("tokenizer.ggml.tokens", ["a", "\u2581b", "c"])
    writer.add_array("tokenizer.ggml.scores", [0.0, -1.0, -2.5])
    writer.add_array("tokenizer.ggml.token_type", [1, 2, 3])
    kind = gguf.GGMLQuantizationType[precision]
    for name, shape in shapes(n_layers, n_embd, n_ff, tied=tied, n_rows=n_rows).items():
        data = values(name, shape)
        if len(shape) == 1 or precision == "F32":
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shapes(n_layers: int, n_embd: int, n_ff: int, *, tied: bool, n_rows: int = N_ROWS) -> dict[str, tuple[int, ...]]:
    """Return names and shapes in llama.cpp's order."""
    inner = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"), n_embd)
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_rows, n_embd)}
    for i in range(n_layers):
        found[f"blk.{i}.attn_norm.weight"] = found[f"blk.{i}.ffn_norm.weight"] = (n_embd,)
        found |= {f"blk.{i}.{name}.weight": (n_rows, n_in) for name, n_in in {**inner, "ffn_down": n_ff}.items()}
    found["output_norm.weight"] = (n_embd,)
    return found if tied else {**found, "output.weight": (n_rows, n_embd)}


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers with outliers, exact zeros and tiny ones, as trained weights have them."""
    rng = np.random.default_rng([*name.encode()])
    data = (rng.standard_normal(shape) * 0.02).astype(np.float32)
    chosen = rng.random(shape)
    data[chosen < 0.01] *= 30
    data[chosen > 0.99] = 0
    data[(chosen > 0.98) & (chosen < 0.985)] *= 1e-6
    return data


def importance(n_layers: int, n_embd: int, n_ff: int) -> dict[str, np.ndarray]:
    """Return what an importance matrix of such a model holds: the matrices of the layers, and the output."""
    found = {}
    for name, shape in shapes(n_layers, n_embd, n_ff, tied=False).items():
        if len(shape) > 1 and name != "token_embd.weight":
            rng = np.random.default_rng([7, *name.encode()])
            found[name] = np.exp(rng.standard_normal(shape[-1])).astype(np.float32)
    return found
