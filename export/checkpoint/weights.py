"""List the tensors in a folder's weight files, and read any rows of one.

Values are read by plain file reads, never memory-mapped: mapped pages count as the process's memory, and a private
mapping of a file larger than the memory may be refused. Pickled ``.bin`` files are opened by
``torch.load(weights_only=True)``, which runs no code from them, on the meta device, which reads no values.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from aesedge.errors import CheckpointError
from aesedge.system.error_text import error_text
from aesedge.system.git_lfs import refuse_git_lfs_pointer

from .json_file import read_json

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

# The format's names of types; a file may hold more, which no tensor of a LLaVA has.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_SHARD = re.compile(r"-\d{5}-of-(\d{5})$")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a file, read when asked for."""

    name: str
    """As the file spells it."""
    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Elements from one index to the next, by axis; pickled tensors need not be contiguous."""
    offset_bytes: int
    """Where in the file the first element lies."""
    loaded: torch.Tensor | None = None
    """The values, where the file's format can only be read whole."""

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Return the values of ``[start, stop)`` of the first axis, of type ``dtype``; no others are read.

        Raises:
            CheckpointError: the file ends before them, or one is not finite.
        """
        shape = (stop - start, *self.shape[1:])
        if self.loaded is not None:
            return check_finite(self.loaded[start:stop].clone(), self)
        if 0 in shape:
            return torch.empty(shape, dtype=self.dtype)
        n_span = 1 + sum((n - 1) * stride for n, stride in zip(shape, self.strides, strict=True))
        first = self.offset_bytes + start * self.strides[0] * self.dtype.itemsize
        span = self._read(first, n_span)
        return check_finite(span.as_strided(shape, self.strides).contiguous(), self)

    def tensor(self) -> torch.Tensor:
        """Return all values.

        Raises:
            CheckpointError: as for :meth:`rows`.
        """
        if self.shape:
            return self.rows(0, self.shape[0])
        return check_finite(self._read(self.offset_bytes, 1)[0] if self.loaded is None else self.loaded, self)

    def _read(self, first_byte: int, n_elements: int) -> torch.Tensor:
        values = torch.empty(n_elements, dtype=self.dtype)
        left = memoryview(values.view(torch.uint8).numpy()).cast("B")
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(first_byte)
                while left:
                    n_read = file.readinto(left)
                    if not n_read:
                        raise CheckpointError(f"{self.path}: ends within '{self.name}'; download it again")
                    left = left[n_read:]
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read ({error.strerror}); check the disk") from None
        return values


def check_finite(values: torch.Tensor, where: StoredTensor) -> torch.Tensor:
    """Return the values.

    Raises:
        CheckpointError: one of them is not finite; ``where`` is named.
    """
    # The extremes carry a NaN along; isfinite() would need as much memory again as the values.
    if values.numel() and not all(math.isfinite(extreme) for extreme in torch.aminmax(values)):
        raise CheckpointError(
            f"{where.path}: '{where.name}' holds values that are not finite; the checkpoint is damaged or its training "
            "diverged, use another copy"
        )
    return values


def open_weights(folder: Path) -> dict[str, StoredTensor] | None:
    """Find the weight files of a folder and list their tensors.

    Returns:
        The tensors by name, or None where the folder holds no weight files.

    Raises:
        CheckpointError: a file is missing or cannot be read, or two files hold the same tensor.
    """
    found: dict[str, StoredTensor] = {}
    paths, index = _weight_files(folder)
    for path in paths:
        held = open_file(path)
        again = found.keys() & held.keys()
        if again:
            name = min(again)
            raise CheckpointError(
                f"{folder}: '{name}' is both in {found[name].path.name} and in {path.name}; "
                "keep the files of one download only"
            )
        found |= held
    for name, file in index.items():
        if name not in found:
            raise CheckpointError(f"{folder / file}: '{name}' is not in it, as the index says; download it again")
    return found or None


def has_weights(folder: Path) -> bool:
    """Return whether a folder holds a whole model's weight files."""
    return bool(_weight_files(folder)[0])


def open_file(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of one weight file, ``.safetensors`` or ``.bin``.

    Raises:
        CheckpointError: it cannot be read, or holds code.
    """
    refuse_git_lfs_pointer(path, CheckpointError)
    return _open_pickled(path) if path.suffix == ".bin" else _open_safetensors(path)


def _weight_files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Return the files that hold the model, and the index: tensor name to file name.

    Safetensors come before pickles: a folder may have both, with equal content.
    """
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        index = folder / f"{stem}{suffix}.index.json"
        if index.is_file():
            return _indexed(index)
        if (folder / f"{stem}{suffix}").is_file():
            return [folder / f"{stem}{suffix}"], {}
        shards = [path for path in sorted(folder.glob(f"{stem}-*{suffix}")) if _SHARD.search(path.stem)]
        if shards:
            counted = [int(_SHARD.search(path.stem)[1]) for path in shards]  # type: ignore[index]
            _require_all(folder, [f"{stem}-{i + 1:05}-of-{counted[0]:05}{suffix}" for i in range(counted[0])])
            return shards, {}
    return [], {}


def _indexed(index: Path) -> tuple[list[Path], dict[str, str]]:
    try:
        # An index must not lead out of the checkpoint.
        files = {str(name): Path(file).name for name, file in read_json(index)["weight_map"].items()}
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index}: not a weight index; download the checkpoint again") from None
    names = sorted(set(files.values()))
    _require_all(index.parent, names)
    return [index.parent / name for name in names], files


def _require_all(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} of {len(names)} weight files are missing ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); download the checkpoint again"
        )


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    try:
        # The library checks the header, and that the file is as long as it says; it does not say where values lie.
        with safe_open(path, framework="np"):
            pass
        with path.open("rb") as file:
            n_header = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(n_header))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged weight file ({error_text(error)}); download it again") from None
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise CheckpointError(f"{path}: '{name}' is stored as {entry['dtype']}; use an unquantized checkpoint")
        shape = tuple(entry["shape"])
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        found[name] = StoredTensor(name, path, dtype, shape, strides, 8 + n_header + entry["data_offsets"][0])
    return found


def _open_pickled(path: Path) -> dict[str, StoredTensor]:
    zipped = _is_zip(path)
    # Files of before torch 1.6 are no zip archives and are read whole.
    loaded = _load(path, "meta" if zipped else "cpu")
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: holds no tensors by name; use a safetensors copy")
    records = _record_sizes(path) if zipped else {}
    found = {}
    for name, tensor in loaded.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise CheckpointError(f"{path}: '{name}' is sparse or quantized; use an unquantized checkpoint")
        at = (name, path, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))
        if not zipped:
            found[name] = StoredTensor(*at, 0, loaded=tensor.detach())
            continue
        storage = tensor.untyped_storage()
        record = storage._checkpoint_offset  # noqa: SLF001 (how torch says where a storage's values are)
        if records.get(record) != storage.nbytes():
            raise CheckpointError(f"{path}: damaged weight file ('{name}' has no values); download it again")
        found[name] = StoredTensor(*at, record + tensor.storage_offset() * tensor.itemsize)
    return found


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _load(path: Path, device: str) -> Any:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: holds more than tensors, or is damaged, and is not opened; download it again or use a "
            "safetensors copy"
        ) from None
    except Exception as error:  # noqa: BLE001 - damaged bytes make the unpickler stumble in any way
        raise CheckpointError(f"{path}: damaged weight file ({error_text(error)}); download it again") from None


def _record_sizes(path: Path) -> dict[int, int]:
    """Return where the values of each uncompressed record of a zip archive begin, and how many bytes they are."""
    sizes = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for record in archive.infolist():
            # The name and the extra field before the values may be longer here than in the archive's directory.
            file.seek(record.header_offset + 26)
            lengths = file.read(4)
            n_name, n_extra = int.from_bytes(lengths[:2], "little"), int.from_bytes(lengths[2:], "little")
            if record.compress_type == zipfile.ZIP_STORED:
                sizes[record.header_offset + 30 + n_name + n_extra] = record.file_size
    return sizes
