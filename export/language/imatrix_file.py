"""Read and write importance matrices in llama.cpp's file format.

The format (tools/imatrix/imatrix.cpp): a GGUF file with ``general.type`` "imatrix"; for every weight NAME a tensor
``NAME.in_sum2`` with the sums of squares and a tensor ``NAME.counts`` with the number of rows.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from aesedge.errors import BundleError, CheckpointError, MissingExtraError, UsageError
from aesedge.system.git_lfs import N_START_BYTES, git_lfs_problem, is_git_lfs_pointer

from .gguf_reading import first_bytes, open_gguf
from .importance import Importance

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from .gguf_reading import GgufFile

_SUMS, _COUNTS = ".in_sum2", ".counts"
_DATASETS, _CHUNK_COUNT, _CHUNK_SIZE = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
_AGAIN = "make it again, with --calibrate or with llama-imatrix"


def write_imatrix(importance: Importance, path: Path) -> None:
    """Write an importance matrix; the file appears when it is complete.

    A photo is one chunk; the size of a chunk is the mean number of positions.

    Raises:
        BundleError: the disk is full, or nothing may be written there.
        MissingExtraError: the package gguf is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("writing GGUF files uses the package 'gguf'", "convert") from None
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    n_chunks = max(1, len(importance.photos))
    writer = gguf.GGUFWriter(partial, "")  # no architecture: llama.cpp's files name none
    writer.add_type(gguf.GGUFType.IMATRIX)
    writer.add_array(_DATASETS, list(importance.photos) or ["unknown"])
    writer.add_uint32(_CHUNK_COUNT, n_chunks)
    writer.add_uint32(_CHUNK_SIZE, max(1, importance.n_positions // n_chunks))
    for name in sorted(importance.values):
        n_rows = importance.n_rows[name]
        writer.add_tensor(name + _SUMS, (importance.values[name].astype(np.float64) * n_rows).astype(np.float32)[None])
        writer.add_tensor(name + _COUNTS, np.array([[n_rows]], np.float32))
    try:
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(f"{path}: cannot be written: {reason}; make room or give another folder") from error
    finally:
        partial.unlink(missing_ok=True)


def read_imatrix(path: Path) -> Importance:
    """Read an importance matrix, ours or one of llama-imatrix.

    Raises:
        UsageError: there is no such file, or it is no importance matrix of a model like ours.
        CheckpointError: it is damaged.
        MissingExtraError: the package gguf is not installed.
    """
    _check_start(path)
    file = open_gguf(path)
    kind = file.get("general.type", str, "model")
    if kind != "imatrix":
        raise UsageError(f"{path}: a GGUF file of the kind '{kind}', not an importance matrix; {_AGAIN}")
    names = sorted(name.removesuffix(_SUMS) for name in file.tensors if name.endswith(_SUMS))
    counted = sorted(name.removesuffix(_COUNTS) for name in file.tensors if name.endswith(_COUNTS))
    if not names or names != counted:
        odd = min(set(names) ^ set(counted), default="any tensor")
        raise CheckpointError(f"{path}: sums and counts of {odd} are not both there; {_AGAIN}")
    values, n_rows = {}, {}
    for name in names:
        n = _count(file, name)
        if n > 0:  # llama.cpp takes tensors that saw no rows as unknown
            values[name], n_rows[name] = _mean(file, name, n), n
    if not values:
        raise CheckpointError(f"{path}: was measured on nothing: all counts are 0; {_AGAIN}")
    return Importance(values, n_rows, tuple(map(str, file.get(_DATASETS, list, []))))


def _check_start(path: Path) -> None:
    """Check the first bytes, with more specific messages than the reader's."""
    start = first_bytes(path, N_START_BYTES, error=UsageError)
    if is_git_lfs_pointer(start):
        raise UsageError(git_lfs_problem(path))
    if start.startswith(b"GGUF"):
        return
    # The old format: the number of entries, the length of the first name, the name.
    n_name = int.from_bytes(start[4:8], "little")
    if len(start) >= 16 and 8 <= n_name <= 64 and start[8:16].isascii():
        raise UsageError(
            f"{path}: in llama.cpp's old .dat format; convert it: "
            f"llama-imatrix --in-file {path.name} -o {path.stem}.gguf"
        )
    raise UsageError(f"{path}: not an importance matrix in GGUF format; {_AGAIN}")


def _count(file: GgufFile, name: str) -> int:
    counts = _tensor(file, name + _COUNTS)
    if counts.size != 1:
        raise UsageError(f"{file.path}: '{name}' has several experts; LLaVA-1.5's language models have none")
    if counts[0] < 0 or counts[0] != np.round(counts[0]):
        raise CheckpointError(f"{file.path}: the count of '{name}' is {counts[0]}; {_AGAIN}")
    return int(counts[0])


def _mean(file: GgufFile, name: str, n_rows: int) -> npt.NDArray[np.float32]:
    sums = _tensor(file, name + _SUMS)
    if not (sums >= 0).all():
        raise CheckpointError(f"{file.path}: a sum of squares of '{name}' is negative; {_AGAIN}")
    return (sums.astype(np.float64) / n_rows).astype(np.float32)


def _tensor(file: GgufFile, name: str) -> npt.NDArray[np.float32]:
    """Return all values of a float32 tensor, in one row."""
    tensor = file.tensors[name]
    if tensor.tensor_type.name != "F32":
        raise CheckpointError(f"{file.path}: '{name}' is stored as {tensor.tensor_type.name}, not F32; {_AGAIN}")
    values = file.float32(name).reshape(-1)
    if not np.isfinite(values).all():
        raise CheckpointError(f"{file.path}: '{name}' is not finite; {_AGAIN}")
    return values
