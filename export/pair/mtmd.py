"""libmtmd, llama.cpp's own image encoder, asked for its answer; knows pictures and rows, nothing of our graphs.

It runs in a process of its own: it aborts on what it does not expect, prints as it likes, and cannot be interrupted.
The only module beside the language model's that imports llama_cpp: the encoder is another library with its own types.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.errors import ParityError

if TYPE_CHECKING:
    import numpy.typing as npt

_MARKER = b"<__media__>"


def mtmd_version() -> str:
    """Return what encodes, as ``libmtmd of llama-cpp-python 0.3.36``, or an empty text where it is not installed."""
    found = util.find_spec("llama_cpp")
    folders = found.submodule_search_locations if found is not None else None
    if not folders or not (Path(folders[0]) / "mtmd_cpp.py").is_file():
        return ""
    if not any((Path(folders[0]) / "lib").glob("*mtmd.*")):
        return ""
    return f"libmtmd of llama-cpp-python {metadata.version('llama-cpp-python')}"


def encode(mmproj: Path, pictures: npt.NDArray[np.uint8], *, n_threads: int) -> npt.NDArray[np.float32]:
    """Let libmtmd encode pictures that have the tower's size already, so that it neither resizes nor pads.

    Args:
        mmproj: the file.
        pictures: RGB, uint8 [n, image_size, image_size, 3].
        n_threads: CPU threads.

    Returns:
        Image embeddings, float32 [n, n_image_tokens, n_embd].

    Raises:
        ParityError: libmtmd refuses the file, or died of it.
    """
    # The child finds this package where we found it, installed or not.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with tempfile.TemporaryDirectory(prefix="aesedge-") as folder:
        given, answer = Path(folder) / "pictures.npy", Path(folder) / "rows.npy"
        np.save(given, pictures)
        command = [sys.executable, "-m", __name__, str(mmproj), str(given), str(answer), str(n_threads)]
        with subprocess.Popen(  # noqa: S603 (our own module, paths as arguments, no shell)
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                log, _ = process.communicate()
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0 or not answer.is_file():
            raise ParityError(
                f"{mmproj}: llama.cpp's own encoder (libmtmd) cannot be asked: {_reason(log, process.returncode)}; "
                "import without parity, or with another mmproj file"
            )
        rows: npt.NDArray[np.float32] = np.load(answer)
        return rows


def _reason(log: bytes, status: int) -> str:
    """Return the most telling line that the child printed."""
    lines = [line.strip() for line in log.decode("utf-8", "replace").splitlines() if line.strip()]
    signs = ("assert", "error", "fail", "unknown", "unable")
    telling = [line for line in lines if any(sign in line.lower() for sign in signs)]
    return telling[-1] if telling else f"exit status {status}"


class _Encoder:
    """One mmproj in libmtmd, in this process."""

    def __init__(self, path: str, n_threads: int) -> None:
        import llama_cpp.llama_cpp as llama
        from llama_cpp import mtmd_cpp

        self._lib: Any = mtmd_cpp
        llama.llama_backend_init()
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu = False
        params.warmup = False
        params.print_timings = False
        params.n_threads = n_threads
        params.media_marker = _MARKER
        # Without a language model: the marker is all the text there is.
        self._context = mtmd_cpp.mtmd_init_from_file(path.encode(), None, params)
        if not self._context:
            raise RuntimeError("error: libmtmd does not load the file")

    def rows(self, picture: npt.NDArray[np.uint8], n_embd: int) -> npt.NDArray[np.float32]:
        """Return the embeddings of one picture, uint8 [side, side, 3]."""
        import ctypes

        lib = self._lib
        height, width, _ = picture.shape
        data = np.ascontiguousarray(picture).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = lib.mtmd_bitmap_init(width, height, data)
        chunks = lib.mtmd_input_chunks_init()
        text = lib.mtmd_input_text(_MARKER, len(_MARKER), False, True)
        status = lib.mtmd_tokenize(self._context, chunks, ctypes.byref(text), (ctypes.c_void_p * 1)(bitmap), 1)
        if status != 0:
            raise RuntimeError(f"error: libmtmd does not take the picture (status {status})")
        found = [lib.mtmd_input_chunks_get(chunks, i) for i in range(lib.mtmd_input_chunks_size(chunks))]
        (image,) = [c for c in found if lib.mtmd_input_chunk_get_type(c) == lib.MTMD_INPUT_CHUNK_TYPE_IMAGE]
        n_rows = lib.mtmd_input_chunk_get_n_tokens(image)
        if lib.mtmd_encode_chunk(self._context, image) != 0:
            raise RuntimeError("error: libmtmd failed to encode")
        flat = np.ctypeslib.as_array(lib.mtmd_get_output_embd(self._context), shape=(n_rows * n_embd,))
        rows = flat.reshape(n_rows, n_embd).copy()
        lib.mtmd_input_chunks_free(chunks)
        lib.mtmd_bitmap_free(bitmap)
        return rows


def _main(mmproj: str, pictures: str, answer: str, n_threads: str) -> None:
    from ..language.gguf_reading import open_gguf

    n_embd = open_gguf(Path(mmproj)).shapes["mm.2.weight"][0]
    encoder = _Encoder(mmproj, int(n_threads))
    np.save(answer, np.stack([encoder.rows(picture, n_embd) for picture in np.load(pictures)]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
