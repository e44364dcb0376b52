"""Select the files of a repository that an export reads, and check their hashes."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from aesedge.bundle.checksums import cached_sha256
from aesedge.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SMALL = {
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
}
# Safetensors first: they are read by range, and nothing in them is a program.
_WEIGHTS = (
    re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors"),
    re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin"),
)
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")
_CHUNK_BYTES = 1 << 20


class HubFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file as the hub lists it."""

    path: str
    n_bytes: int
    sha256: str = ""
    """SHA-256 of a file in large-file storage; empty for the others."""
    git_sha1: str = ""
    """Git's hash of a small file; empty where ``sha256`` is given."""

    @property
    def is_weights(self) -> bool:
        """Whether it holds tensors."""
        return any(pattern.fullmatch(self.path) for pattern in _WEIGHTS)


def needed_files(repository: str, files: Sequence[HubFile]) -> list[HubFile]:
    """Return the files that an export reads: configuration, tokenizer, one form of the weights; small ones first.

    Raises:
        DownloadError: this is no checkpoint that could be exported, or shards of it are missing.
    """
    by_path = {file.path: file for file in files}
    if "adapter_config.json" in by_path:
        raise DownloadError(
            f"{repository}: a LoRA adapter, which is exported together with its base model: download both "
            "('hf download') and use 'aesedge export'"
        )
    if "config.json" not in by_path:
        raise DownloadError(f"{repository}: not a checkpoint (no config.json in it)" + _hint(files))
    for pattern, index in zip(_WEIGHTS, _INDEXES, strict=True):
        weights = [file for path, file in sorted(by_path.items()) if pattern.fullmatch(path)]
        if not weights:
            continue
        if len(weights) > 1:  # some repositories hold one large file beside its own shards
            shards = [file for file in weights if _SHARD.search(file.path)]
            single = [file for file in weights if file not in shards]
            weights = shards if index in by_path or not single else single
        _check_shards(repository, [file.path for file in weights])
        small = [file for path, file in sorted(by_path.items()) if path in _SMALL or path == index]
        return small + weights
    raise DownloadError(f"{repository}: no weights as safetensors or PyTorch files in it" + _hint(files))


def _hint(files: Sequence[HubFile]) -> str:
    if any(file.path.lower().endswith(".gguf") for file in files):
        return "; it holds GGUF files: download the model and its mmproj and use 'aesedge import'"
    return "; look for the repository with the PyTorch weights"


def _check_shards(repository: str, paths: Sequence[str]) -> None:
    shards = [found for path in paths if (found := _SHARD.search(path))]
    if not shards:
        return
    there, n_shards = {int(found[1]) for found in shards}, int(shards[0][2])
    missing = sorted(set(range(1, n_shards + 1)) - there)
    if missing:
        raise DownloadError(
            f"{repository}: {len(missing)} of {n_shards} weight files are missing there (number {missing[0]} first); "
            "it was not uploaded completely, look for another copy"
        )


def check_file(path: Path, file: HubFile) -> None:
    """Check that a file has the published content.

    Raises:
        DownloadError: it has not.
    """
    if path.stat().st_size != file.n_bytes:
        raise DownloadError(f"{path}: {path.stat().st_size} bytes instead of {file.n_bytes}")
    found, expected = (cached_sha256(path), file.sha256) if file.sha256 else (git_sha1(path), file.git_sha1)
    if found != expected:
        kind = "SHA-256" if file.sha256 else "git hash"
        raise DownloadError(f"{path}: its {kind} is {found[:12]}…, {expected[:12]}… was published")


def git_sha1(path: Path) -> str:
    """Return the hash by which git knows a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
