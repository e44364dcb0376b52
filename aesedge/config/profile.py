"""Load and save tuned settings: what was measured to be fastest for a bundle on this machine.

A profile counts only where everything is as it was when it was measured: processor, cores, GPUs, the versions of the
libraries, and the bundle's files.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from aesedge.config.plan import Settings
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.llm.limits import KV_TYPES
from aesedge.system.atomic_file import write_atomic
from aesedge.system.machine import cpu_name, most_threads, n_cores, package_version
from aesedge.system.paths import cache_folder
from aesedge.system.regular_file import read_regular
from aesedge.vision.providers import vision_devices

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.bundle.manifest import Manifest

Purpose = Literal["score", "critique"]
FORMAT = 4
_PACKAGES = ("aesedge", "llama-cpp-python", "onnxruntime", "onnxruntime-gpu")
_MAX_BYTES = 1 << 22
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
_log = logging.getLogger("aesedge")


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings by purpose, and what was measured to find them."""

    format: int
    key: str
    measured_at: str
    """Date and time, UTC."""
    took_s: Seconds
    machine: dict[str, Any]
    settings: dict[Purpose, Settings]
    expected_s: dict[Purpose, Seconds]
    """About what one photo took with these settings: tower, prefill, and for a critique its text."""
    trials: list[dict[str, Any]]
    """Every comparison: what was changed, both sides' figures, how far scores moved, and what was chosen."""


def machine_facts() -> dict[str, Any]:
    """Return the facts about this machine that a profile depends on."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": cpu_name(),
        "n_cores": n_cores(),
        "gpus": [gpu.name for gpu in gpu_devices()],
        "packages": {name: version for name in _PACKAGES if (version := package_version(name))},
    }


def profile_key(manifest: Manifest, gguf: str, device: str) -> str:
    """Return the SHA-256 of everything that a profile depends on."""
    files = [file.sha256 for file in manifest.files if file.role == "vision" or file.type.lower() == gguf.lower()]
    return hashlib.sha256(msgspec.json.encode([FORMAT, machine_facts(), files, device])).hexdigest()


def profile_path(manifest: Manifest, gguf: str, key: str) -> Path:
    """Return where a profile lies."""
    return cache_folder() / "profiles" / f"{manifest.name}-{gguf.lower()}-{key[:16]}.json"


def load_profile(manifest: Manifest, gguf: str, device: str) -> Profile | None:
    """Return the profile of this bundle on this machine, or None if there is none that can be used."""
    if manifest.file("llm", gguf) is None:  # an unchecked name must not become part of a path
        return None
    key = profile_key(manifest, gguf, device)
    path = profile_path(manifest, gguf, key)
    try:
        found = msgspec.json.decode(read_regular(path, most_bytes=_MAX_BYTES), type=Profile)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problem = error.strerror or "it cannot be read"
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        problem = str(error)
    else:
        if (found.format, found.key) != (FORMAT, key):
            return None
        problem = next(filter(None, (_problem(settings, manifest) for settings in found.settings.values())), "")
        if not problem:
            return found
    _remark_once(path, problem)
    return None


def _problem(settings: Settings, manifest: Manifest) -> str:  # noqa: PLR0911 (one return per rule)
    """Return why settings cannot be used with this machine and bundle, or an empty text."""
    threads = max(settings.threads, settings.threads_batch, settings.threads_vision)
    device = settings.vision_device
    if settings.kv_type not in KV_TYPES:
        return f"there is no KV type {settings.kv_type[:40]!r}"
    if settings.kv_type != "f16" and not settings.flash_attention:
        return f"the KV type {settings.kv_type} needs flash attention"
    if settings.vision.lower() not in {type_.lower() for type_ in manifest.types("vision")}:
        return f"the bundle has no vision precision {settings.vision[:40]!r}"
    if device not in {"auto", "cpu"} and device not in vision_devices():
        return f"ONNX Runtime has no {device} here"
    if settings.gpu_layers not in {"auto", 0} and not gpu_devices():
        return "llama.cpp has no GPU here"
    if threads > most_threads():
        return f"{threads} threads are too many for {n_cores()} cores"
    return ""


@cache
def _remark_once(path: Path, problem: str) -> None:
    _log.warning("%s: cannot be used: %s; 'aesedge tune' measures anew", path, problem)


def delete_profile(manifest: Manifest, gguf: str, device: str) -> bool:
    """Remove the profile of this bundle on this machine; returns whether there was one.

    Raises:
        OSError: it cannot be removed.
    """
    path = profile_path(manifest, gguf, profile_key(manifest, gguf, device))
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n", own=True)
