"""Write a language model as GGUF files of several types in one pass over its source.

Chunks of rows are read, quantized to every type by several threads, and written: memory stays small whatever the size
of a tensor, and no file in half precision is needed in between. Every tensor gets the type and the bytes that
llama.cpp's quantizer makes of an unquantized file of the source's own precision.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aesedge.errors import CheckpointError

from .ggml import quantize_rows
from .gguf_output import GgufOutput, as_matrix, header, plan_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from .language_source import LanguageSource

    Rows = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]
    Importance = Mapping[str, npt.NDArray[np.float32]]

_CHUNK_VALUES = 4 << 20  # 16 MiB of float32: what is read, quantized and written at once
_PIECE_VALUES = 256 << 10  # what a thread quantizes at once, in about a tenth of a second: Ctrl-C waits no longer
_WHOLE_HEADS = 128  # chunks of a multiple of this many rows hold whole heads, so q and k are read once
_F16_LIMIT = 65520.0  # from here on rounding to F16 gives infinity


@dataclass(frozen=True)
class PassProgress:
    """How far a pass is."""

    tensor: str
    """The tensor of which rows were just written."""
    n_done_bytes: int
    """Written to all files together."""
    n_total_bytes: int


@dataclass(frozen=True)
class _Chunk:
    """Rows [start, stop) of a tensor."""

    tensor: str
    start: int
    stop: int
    is_last: bool


def write_language(
    source: LanguageSource,
    targets: Mapping[str, Path],
    *,
    importance: Importance | None = None,
    n_threads: int = 1,
    progress: Callable[[PassProgress], None] | None = None,
) -> dict[str, dict[str, str]]:
    """Write a language model in several types in one pass over its source.

    Args:
        source: the model.
        targets: file type (a key of ``GGUF_TYPES``) to the file to write.
        importance: llama.cpp's name of a matrix to float32 [n_in], how much each of its inputs matters.
        n_threads: threads that quantize.
        progress: called in this thread after every chunk.

    Returns:
        For every type the tensors whose rows do not fit the wanted tensor type, and the type in which they are stored.

    Raises:
        CheckpointError: a value is not finite, or too large for an asked type; an importance is of another model.
        BundleError: a file cannot be written. Whatever is raised, no file is left behind.
    """
    _check_importance(source, importance or {})
    layouts = [plan_layout(source, file_type, weighted=importance is not None) for file_type in targets]
    try:
        with ExitStack() as stack:
            files = [
                stack.enter_context(GgufOutput(path, source, layout))
                for path, layout in zip(targets.values(), layouts, strict=True)
            ]
            pool = stack.enter_context(_Pool(n_threads))
            _write_tensors(_WriteJob(source, files, importance or {}, pool), progress or (lambda _: None))
    except BaseException:
        for path in targets.values():
            path.unlink(missing_ok=True)
        raise
    return {layout.file_type: layout.stored_otherwise for layout in layouts}


def language_bytes(source: LanguageSource, types: Iterable[str], *, weighted: bool = False) -> dict[str, int]:
    """Return the exact size of each type's file without writing any.

    Args:
        source: the model.
        types: file types.
        weighted: whether an importance matrix will be used, which moves some tensors to other types.
    """
    layouts = [plan_layout(source, file_type, weighted=weighted) for file_type in types]
    return {layout.file_type: len(header(source, layout)) + layout.n_bytes for layout in layouts}


def _check_importance(source: LanguageSource, importance: Importance) -> None:
    for name, values in importance.items():
        n_in = source.shapes[name][-1] if name in source.shapes else values.size
        if values.shape != (n_in,) or not np.isfinite(values).all():
            raise CheckpointError(
                f"{source.where}: the importance of '{name}' must be {n_in} finite values and is not; "
                "use an importance matrix of this very model"
            )


class _Pool(ThreadPoolExecutor):
    """A thread pool that cancels pending work on an error."""

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _WriteJob:
    """A pass: source, files, importance and threads."""

    source: LanguageSource
    files: Sequence[GgufOutput]
    importance: Importance
    pool: _Pool

    def types(self, tensor: str) -> dict[str, None]:
        """Return the types in which a tensor is asked for, each once: several files may share one."""
        return dict.fromkeys(file.layout.types[tensor] for file in self.files)


def _write_tensors(job: _WriteJob, progress: Callable[[PassProgress], None]) -> None:
    """Write chunk after chunk to every file; the next one is read while the present one is quantized."""
    n_total = sum(file.layout.n_bytes for file in job.files)
    chunks = _chunks(job.source)
    chunk = next(chunks, None)
    reading = job.pool.submit(_read, job, chunk) if chunk else None
    while chunk is not None and reading is not None:
        rows = reading.result()
        upcoming = next(chunks, None)
        reading = job.pool.submit(_read, job, upcoming) if upcoming else None
        packed = {kind: _pack(job, chunk, rows, kind) for kind in job.types(chunk.tensor)}
        for file in job.files:
            for piece in packed[file.layout.types[chunk.tensor]]:
                file.write(piece.result())
            if chunk.is_last:
                file.end_tensor()
        progress(PassProgress(chunk.tensor, sum(file.n_data_bytes for file in job.files), n_total))
        chunk = upcoming


def _chunks(source: LanguageSource) -> Iterator[_Chunk]:
    for tensor, shape in source.shapes.items():
        n_rows, n_in = as_matrix(shape)
        step = max(1, _CHUNK_VALUES // n_in)
        if step > _WHOLE_HEADS:
            step -= step % _WHOLE_HEADS
        for start in range(0, n_rows, step):
            stop = min(start + step, n_rows)
            yield _Chunk(tensor, start, stop, is_last=stop == n_rows)


def _read(job: _WriteJob, chunk: _Chunk) -> Rows:
    rows = job.source.rows(chunk.tensor, chunk.start, chunk.stop)
    largest = max(float(rows.max()), -float(rows.min()))  # not a number where one of them is none
    if not math.isfinite(largest):
        raise CheckpointError(
            f"{job.source.where}: '{chunk.tensor}' holds values that are not finite; this cannot be exported"
        )
    if largest >= _F16_LIMIT and "F16" in job.types(chunk.tensor):
        raise CheckpointError(
            f"{job.source.where}: '{chunk.tensor}' has values beyond 65504, which F16 cannot hold; ask for BF16"
        )
    return rows


def _pack(job: _WriteJob, chunk: _Chunk, rows: Rows, kind: str) -> list[Future[Bytes]]:
    """Start quantizing rows to a tensor type; return the pieces' futures in order."""
    if job.source.types.get(chunk.tensor) == kind:  # as it lies there: quantizing again might round again
        return [job.pool.submit(job.source.packed, chunk.tensor, chunk.start, chunk.stop)]
    importance = job.importance.get(chunk.tensor)

    def quantize(piece: Rows) -> Bytes:
        try:
            return quantize_rows(piece, kind, importance)
        except ValueError as error:
            raise CheckpointError(f"{job.source.where}: '{chunk.tensor}': {error}; ask for BF16") from None

    step = max(1, _PIECE_VALUES // rows.shape[1])
    return [job.pool.submit(quantize, rows[i : i + step]) for i in range(0, len(rows), step)]
