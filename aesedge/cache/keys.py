"""Compute cache keys by content: equal keys mean that the same bits would be computed.

A key has nothing of a photo's name, time or metadata, and everything that changes a result: the preprocessed pixels,
the weights by their SHA-256, the settings and the runtime.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from aesedge.image.image_spec import ImageSpec

    Setting = str | int | float | bool | None

FORMAT_VERSION = 1
"""Part of every key; raise it when the meaning of what is kept changes, such as how embeddings are rounded."""

_DIGEST = re.compile("[0-9a-f]{64}")


def pixels_digest(pixel_values: npt.NDArray[Any]) -> str:
    """Return the digest of a preprocessed photo.

    Args:
        pixel_values: what :func:`aesedge.image.preprocess` returns; its dtype and shape count too, so that a 2x8 image
            is not a 4x4 one.
    """
    if pixel_values.dtype.hasobject:
        raise UsageError(f"pixels are numbers, not {pixel_values.dtype}")
    digest = hashlib.sha256(_encoded("pixels", [pixel_values.dtype.str, list(pixel_values.shape)]))
    digest.update(np.ascontiguousarray(pixel_values).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def embeddings_key(
    *,
    pixels: str,
    tower_sha256: str,
    provider: str,
    runtime: str,
    image: ImageSpec,
    n_image_tokens: int,
    reduction: str,
) -> str:
    """Return the key of one photo's image embeddings.

    Args:
        pixels: from :func:`pixels_digest`.
        tower_sha256: the vision graph file's SHA-256.
        provider: the execution provider; a GPU's rows are not the CPU's.
        runtime: name and version of what runs the graph, e.g. ``onnxruntime 1.22.0``; kernels change with releases.
        image: the preprocessing. The pixels show most of it already; here is what they do not.
        n_image_tokens: number of image tokens.
        reduction: method by which they were reduced; ``none`` if they were not.
    """
    parts = {
        "pixels": _checked(pixels, "pixels"),
        "tower": _checked(tower_sha256, "tower_sha256"),
        "provider": provider,
        "runtime": runtime,
        "image": msgspec.to_builtins(image),
        "n_image_tokens": operator.index(n_image_tokens),
        "reduction": reduction,
    }
    return hashlib.sha256(_encoded("embeddings", parts)).hexdigest()


def kv_key(
    *,
    embeddings: str | None,
    gguf_sha256: str,
    prefix: Sequence[int],
    template: str,
    kv_type: str,
    settings: Mapping[str, Setting],
    llama_cpp: str,
) -> str:
    """Return the key of the KV of a text prefix, or of a text prefix and the photo after it.

    Args:
        embeddings: from :func:`embeddings_key`; None for the text prefix alone.
        gguf_sha256: the language model file's SHA-256.
        prefix: the exact token ids before the image.
        template: name of the prompt template.
        kv_type: type of the KV cache, e.g. ``f16``.
        settings: everything else about the context that changes bits or layout, by name: flash attention, batch
            sizes, the device and its layers.
        llama_cpp: llama.cpp's version or system information, as the caller knows it; the layout of a saved state and
            the kernels belong to it.
    """
    strange = {name: type(value).__name__ for name, value in settings.items() if not _is_setting(name, value)}
    if strange:
        raise UsageError(f"a key is made of names with text, finite numbers, booleans and None, not of {strange}")
    parts = {
        "embeddings": None if embeddings is None else _checked(embeddings, "embeddings"),
        "gguf": _checked(gguf_sha256, "gguf_sha256"),
        "prefix": [operator.index(token) for token in prefix],
        "template": template,
        "kv_type": kv_type,
        "settings": dict(settings),
        "llama_cpp": llama_cpp,
    }
    return hashlib.sha256(_encoded("kv", parts)).hexdigest()


def _encoded(what: str, parts: object) -> bytes:
    r"""Write the ingredients so that no two lists of them look alike: JSON quotes, counts and types by itself.

    The newline ends it: inside JSON it can only stand as ``\n``. Lone surrogates pass, as bytes that nothing else has.
    """
    text = json.dumps(
        ["aesedge", what, FORMAT_VERSION, parts],
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    return f"{text}\n".encode("utf-8", "surrogatepass")


def _checked(digest: str, what: str) -> str:
    """Require a SHA-256: any other string could make two models share a key."""
    if not _DIGEST.fullmatch(digest):
        raise UsageError(f"{what} is a SHA-256 as 64 small hexadecimal digits, not {digest!r}")
    return digest


def _is_setting(name: object, value: object) -> bool:
    if isinstance(value, float):
        return isinstance(name, str) and bool(np.isfinite(value))
    return isinstance(name, str) and (value is None or isinstance(value, str | int))
