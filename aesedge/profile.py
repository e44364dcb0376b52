"""What was measured to be fastest for a bundle on this machine, and where that is kept; measures nothing itself.

A profile counts only where everything is as it was when it was measured: processor, cores, GPUs, the versions of the
libraries, and the bundle's files.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.hashes import cache_folder
from aesedge.llm.placement import gpu_devices
from aesedge.machine import cpu_name, n_cores, package_version
from aesedge.whole_file import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.manifest import Manifest

Purpose = Literal["score", "critique"]
FORMAT = 2
_PACKAGES = ("aesedge", "llama-cpp-python", "onnxruntime", "onnxruntime-gpu")
_log = logging.getLogger("aesedge")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields of :class:`aesedge.plan.Plan` that only the speed depends on, within a tolerance."""

    vision: str
    vision_device: Literal["auto", "cpu", "cuda", "metal"]
    kv_type: str
    gpu_layers: int | Literal["auto"]
    repack: bool
    flash_attention: bool
    chunk: int
    threads: int
    threads_batch: int
    threads_vision: int


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings by purpose, and what was measured to find them."""

    format: int
    key: str
    measured_at: str
    """Date and time, UTC."""
    took_s: float
    machine: dict[str, Any]
    settings: dict[Purpose, Settings]
    expected_s: dict[Purpose, float]
    """About what one photo took with these settings: tower, prefill, and for a critique its text."""
    trials: list[dict[str, Any]]
    """Every comparison: what was changed, both sides' figures, how far scores moved, and what was chosen."""


def machine_facts() -> dict[str, Any]:
    """Return what of this machine a profile depends on."""
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
    key = profile_key(manifest, gguf, device)
    path = profile_path(manifest, gguf, key)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Profile)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("%s: cannot be used: %s; 'aesedge tune' measures anew", path, error)
        return None
    return found if (found.format, found.key) == (FORMAT, key) else None


def forget_profile(manifest: Manifest, gguf: str, device: str) -> bool:
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
    write_whole(path, msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")
