"""Check by its header that a GGUF file can be a LLaVA-1.5's language model: shapes, numbers, vocabulary.

llama.cpp takes most of this for granted, and aborts or computes nonsense where it does not hold.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from aesedge.bundle.gguf_header import BadGguf, read_header
from aesedge.errors import BundleFormatError
from aesedge.system.error_text import shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aesedge.bundle.gguf_header import GgufHeader

ARCHITECTURE = "llama"
_MAX_LAYERS, _MAX_WIDTH, _MAX_TOKENS, _MAX_POSITIONS, _MAX_TOKEN_BYTES = 512, 65_536, 1 << 20, 1 << 24, 4096
_BYTES = 256
_N_TYPES = 7
"""Kinds of tokens: 0 is unknown to the file, 1 to 6 are llama.cpp's."""
_SPECIAL = re.compile(r"tokenizer\.ggml\.\w+_token_id")
_LAYER = re.compile(r"blk\.(\d+)\.")
_NO_TOKEN = {-1, 2**32 - 1}


class _Sizes(NamedTuple):
    """The numbers that the shapes of all tensors follow from."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_vocab: int
    n_q: int
    n_k: int
    n_v: int
    n_out: int


def check_language_file(path: Path) -> GgufHeader:
    """Check that a file's header describes a complete language model, and return it.

    Raises:
        BundleFormatError: it does not; the message says what is wrong.
    """
    header = read_header(path)
    architecture = header.text("general.architecture")
    if architecture != ARCHITECTURE:
        raise BundleFormatError(
            f"{path}: holds the architecture {architecture[:40]!r}, a LLaVA-1.5 language model is {ARCHITECTURE!r}; "
            "export or install the bundle again"
        )
    try:
        n_vocab = _check_vocabulary(header)
        shape = _shape(header, n_vocab)
        _check_numbers(header)
        _check_tensors(header, shape)
    except BadGguf as error:
        raise BundleFormatError(f"{path}: {error}; export or install the bundle again") from None
    return header


def _whole(header: GgufHeader, key: str, most: int, default: int | None = None, *, least: int = 1) -> int:
    value = header.values.get(f"{ARCHITECTURE}.{key}", default)
    if type(value) is not int or not least <= value <= most:
        words = "is missing" if value is None else f"is {_short(value)}, it must be a whole number of {least} to {most}"
        raise BadGguf(f"the key '{ARCHITECTURE}.{key}' {words}")
    return value


def _short(value: object) -> str:
    return shortened(repr(value[:8] if isinstance(value, (list, bytes)) else value), 60)


def _shape(header: GgufHeader, n_vocab: int) -> _Sizes:
    n_layers, n_embd = _whole(header, "block_count", _MAX_LAYERS), _whole(header, "embedding_length", _MAX_WIDTH)
    n_head = _whole(header, "attention.head_count", n_embd)
    n_head_kv = _whole(header, "attention.head_count_kv", n_head, n_head)
    if n_embd % n_head or n_head % n_head_kv:
        raise BadGguf(f"{n_head} heads, {n_head_kv} of them with keys, do not divide a width of {n_embd}")
    key, value = (_whole(header, f"attention.{of}_length", n_embd, n_embd // n_head) for of in ("key", "value"))
    n_rotated = _whole(header, "rope.dimension_count", key, key)
    if n_rotated % 2:
        raise BadGguf(f"the key '{ARCHITECTURE}.rope.dimension_count' is {n_rotated}, an odd number")
    n_ff = _whole(header, "feed_forward_length", 8 * _MAX_WIDTH)
    return _Sizes(n_layers, n_embd, n_ff, n_vocab, n_head * key, n_head_kv * key, n_head_kv * value, n_head * value)


def _check_numbers(header: GgufHeader) -> None:
    _whole(header, "context_length", _MAX_POSITIONS)
    _whole(header, "expert_count", 0, 0, least=0)
    _whole(header, "expert_used_count", 0, 0, least=0)
    _whole(header, "vocab_size", _MAX_TOKENS, 1)
    positive = {
        "attention.layer_norm_rms_epsilon": (None, 1.0),
        "rope.freq_base": (10_000.0, 1e12),
        "rope.scaling.factor": (1.0, 1e6),
        "rope.scale_linear": (1.0, 1e6),
    }
    for key, (default, most) in positive.items():
        value = header.values.get(f"{ARCHITECTURE}.{key}", default)
        if not isinstance(value, float) or not 0 < value <= most:
            raise BadGguf(f"the key '{ARCHITECTURE}.{key}' is {_short(value)}, it must be above 0 and at most {most:g}")
    for name, value in header.values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadGguf(f"the key {name!r} is {value}, not a number")


def _check_vocabulary(header: GgufHeader) -> int:
    """Return the number of tokens."""
    model = header.text("tokenizer.ggml.model")
    if model != ARCHITECTURE:
        raise BadGguf(f"has the vocabulary {model[:40]!r}; a LLaVA-1.5 has Vicuna's ({ARCHITECTURE!r})")
    tokens = header.values.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, bytes) for token in tokens):
        raise BadGguf("has no list of tokens")
    n = len(tokens)
    if n > _MAX_TOKENS or any(len(token) > _MAX_TOKEN_BYTES for token in tokens if isinstance(token, bytes)):
        raise BadGguf(f"has {n} tokens, or one that is longer than {_MAX_TOKEN_BYTES} bytes")
    known = set(tokens)
    if len(known) != n:
        raise BadGguf(f"has a token twice: {n} tokens, {len(known)} different ones")
    missing = [b for b in range(_BYTES) if b"<0x%02X>" % b not in known and bytes([b]) not in known]
    if missing:
        raise BadGguf(f"has no token for {len(missing)} of the {_BYTES} bytes, so that not every text can be read")
    _check_beside(header, "scores", n, lambda value: isinstance(value, float) and math.isfinite(value))
    _check_beside(header, "token_type", n, lambda value: type(value) is int and 0 <= value < _N_TYPES)
    for key, value in header.values.items():
        if _SPECIAL.fullmatch(key) and not (type(value) is int and (0 <= value < n or value in _NO_TOKEN)):
            raise BadGguf(f"the key {key!r} is {_short(value)}, outside the {n} tokens")
    for key in ("bos", "eos"):
        if header.values.get(f"tokenizer.ggml.{key}_token_id", 1) in _NO_TOKEN:
            raise BadGguf(f"has no token that {'begins' if key == 'bos' else 'ends'} a text")
    return n


def _check_beside(header: GgufHeader, key: str, n: int, fits: Callable[[object], bool]) -> None:
    """Check that there is one right value for each token."""
    values = header.values.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, list) or len(values) != n or not all(map(fits, values)):
        raise BadGguf(f"the key 'tokenizer.ggml.{key}' is not a list of {n} values, one for each token, all in range")


def _check_tensors(header: GgufHeader, shape: _Sizes) -> None:
    layers = {int(match[1]) for name in header.tensors if (match := _LAYER.match(name))}
    if layers != set(range(shape.n_layers)):
        raise BadGguf(f"the key '{ARCHITECTURE}.block_count' is {shape.n_layers}, there are tensors of {len(layers)}")
    for name, wanted in _expected(shape).items():
        tensor = header.tensors.get(name)
        if tensor is None:
            if name != "output.weight" and not name.endswith(".bias"):
                raise BadGguf(f"not complete: the tensor {name!r} is missing")
            continue
        if _without_ones(tensor.shape) != _without_ones(wanted):
            raise BadGguf(f"the tensor {name!r} has the shape {list(tensor.shape)}, its keys say {list(wanted)}")
        if len(wanted) == 1 and tensor.kind != "F32":
            raise BadGguf(f"the tensor {name!r} is stored as {tensor.kind}, llama.cpp reads it as F32")


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the ones at its end, which ggml does not tell from none."""
    n = len(shape)
    while n > 1 and shape[n - 1] == 1:
        n -= 1
    return shape[:n]


def _expected(shape: _Sizes) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of a Llama, and of those that some have."""
    wide, ff = shape.n_embd, shape.n_ff
    expected: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (wide, shape.n_vocab),
        "output_norm.weight": (wide,),
        "output.weight": (wide, shape.n_vocab),
    }
    matrices = {
        "attn_q": (wide, shape.n_q),
        "attn_k": (wide, shape.n_k),
        "attn_v": (wide, shape.n_v),
        "attn_output": (shape.n_out, wide),
        "ffn_gate": (wide, ff),
        "ffn_up": (wide, ff),
        "ffn_down": (ff, wide),
    }
    for i in range(shape.n_layers):
        expected |= {f"blk.{i}.{name}.weight": (wide,) for name in ("attn_norm", "ffn_norm")}
        for name, matrix in matrices.items():
            expected[f"blk.{i}.{name}.weight"] = matrix
            expected[f"blk.{i}.{name}.bias"] = matrix[1:]
    return expected
