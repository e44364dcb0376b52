"""Report what the installed llama.cpp was built with: versions, backends, devices, CPU features."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from aesedge.llm import binding
from aesedge.llm.ggml import backend_function, extra_buffer_types, ggml_function

_pointer, _text, _size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t


class LlamaBuild(NamedTuple):
    """Versions and features of llama.cpp and ggml; a text is empty if this build does not report it."""

    llama_version: str
    ggml_version: str
    ggml_commit: str
    """Of the source tree that ggml was compiled in, which is llama.cpp's."""
    backends: list[str]
    """Names of ggml's registry: CPU, CUDA, Metal."""
    devices: list[str]
    """What the backends found on this machine, each with its description."""
    features: dict[str, dict[str, str]]
    """What each backend was compiled for: ``{"CPU": {"AVX2": "1"}}``."""
    extra_buffers: list[str]
    """Layouts into which weights can be copied: CPU_REPACK."""


class _Feature(ctypes.Structure):
    """ggml_backend_feature; a list of them ends with one without a name."""

    _fields_ = (("name", _text), ("value", _text))


def llama_build() -> LlamaBuild:
    """Return what the installed llama.cpp was built with.

    Raises:
        ModelLoadError: it cannot be loaded.
    """
    binding.load()
    at = ggml_function("ggml_backend_reg_get", _pointer, _size)
    registries = [at(i) for i in range(ggml_function("ggml_backend_reg_count", _size)())]
    name_of = ggml_function("ggml_backend_reg_name", _text, _pointer)
    device_at = ggml_function("ggml_backend_dev_get", _pointer, _size)
    devices = [device_at(i) for i in range(ggml_function("ggml_backend_dev_count", _size)())]
    device_name = ggml_function("ggml_backend_dev_name", _text, _pointer)
    description = ggml_function("ggml_backend_dev_description", _text, _pointer)
    name_of_buffer = ggml_function("ggml_backend_buft_name", _text, _pointer)
    features = {_str(name_of(registry)): _features(registry) for registry in registries}
    return LlamaBuild(
        llama_version=_told("llama_version"),
        ggml_version=_told("ggml_version"),
        ggml_commit=_told("ggml_commit"),
        backends=list(features),
        devices=[f"{_str(device_name(device))}: {_str(description(device))}" for device in devices],
        features={name: found for name, found in features.items() if found},
        extra_buffers=[_str(name_of_buffer(type_)) for device in devices for type_ in extra_buffer_types(device)],
    )


def _told(function: str) -> str:
    try:
        return _str(ggml_function(function, _text)())
    except AttributeError:  # older versions do not have all of them
        return ""


def _features(registry: int) -> dict[str, str]:
    address = backend_function(registry, b"ggml_backend_get_features")
    if not address:
        return {}
    listed = ctypes.CFUNCTYPE(ctypes.POINTER(_Feature), _pointer)(address)(registry)
    found, i = {}, 0
    while listed and listed[i].name:
        found[_str(listed[i].name)] = _str(listed[i].value)
        i += 1
    return found


def _str(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "replace")
