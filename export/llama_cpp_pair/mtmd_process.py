"""Run llama.cpp's own image path (libmtmd) in a process, from a picture to the next token, to compare with.

It runs in a process of its own: it aborts on what it does not expect, prints as it likes, and cannot be interrupted.
The process stays, so that both sides of a comparison can take turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aesedge.errors import InferenceError
from aesedge.system.closing import Closing
from aesedge.system.paths import child_python_path

if TYPE_CHECKING:
    import numpy.typing as npt

MARKER = "<__media__>"
"""Where the image stands in a text."""
N_CTX = 2048
"""Positions of its KV cache: an image, a question, and what is written about it."""


class Prompted(NamedTuple):
    """Seconds that a prompt with an image took, and the next token."""

    decode_image_s: float
    """Reading, decoding, resizing and normalising the file."""
    vision_s: float
    prefill_s: float
    """All tokens of the prompt, those of the image among them."""
    n_tokens: int
    token: int
    """The likeliest next one."""

    @property
    def total_s(self) -> float:
        """From the file to the next token's logits."""
        return self.decode_image_s + self.vision_s + self.prefill_s


class Generated(NamedTuple):
    """Seconds that generation took, and the tokens."""

    decode_s: float
    tokens: list[int]
    """The likeliest ones."""


class MtmdSettings(NamedTuple):
    """How llama.cpp runs the language model; None is its own default."""

    repack: bool | None = None
    flash_attention: bool | None = None
    n_ubatch: int | None = None
    gpu_layers: int | None = None
    """Layers on the GPU, where one may be used; -1 for all, as is the default."""


DEFAULTS = MtmdSettings()


class Rates(NamedTuple):
    """What llama-bench's tests took, in seconds."""

    prompt_s: float
    generate_s: float


def mtmd_version() -> str:
    """Return what encodes, as ``libmtmd of llama-cpp-python 0.3.36``, or an empty text where it is not installed."""
    found = util.find_spec("llama_cpp")
    folders = found.submodule_search_locations if found is not None else None
    if not folders or not (Path(folders[0]) / "mtmd_cpp.py").is_file():
        return ""
    if not any((Path(folders[0]) / "lib").glob("*mtmd.*")):
        return ""
    return f"libmtmd of llama-cpp-python {metadata.version('llama-cpp-python')}"


class MtmdProcess(Closing):
    """A process with an image encoder, a language model, or both. Use it as a context manager, or close it.

    Args:
        mmproj: the image encoder; None can read no photos.
        llm: the language model's GGUF file; None can only encode.
        n_threads: CPU threads.
        n_threads_batch: CPU threads that prefill and encode; None takes as many.
        n_ctx: positions of the KV cache.
        gpu: whether it may use a GPU.
        settings: how the language model is run.

    Raises:
        InferenceError: libmtmd refuses a file, or died of it.
    """

    def __init__(
        self,
        mmproj: Path | None,
        llm: Path | None = None,
        *,
        n_threads: int,
        n_threads_batch: int | None = None,
        n_ctx: int = N_CTX,
        gpu: bool = False,
        settings: MtmdSettings = DEFAULTS,
    ) -> None:
        self._name = mmproj or llm
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        environment = {**os.environ, "PYTHONPATH": child_python_path()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aesedge_export.llama_cpp_pair.mtmd_worker"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        try:
            files = {"mmproj": mmproj and str(mmproj), "llm": llm and str(llm)}
            threads = {"n_threads": n_threads, "n_threads_batch": n_threads_batch or n_threads}
            self._ask("open", **files, **threads, n_ctx=n_ctx, gpu=gpu, settings=settings._asdict())
        except BaseException:
            self.close()
            raise

    def encode(self, pictures: npt.NDArray[np.uint8], n_embd: int) -> npt.NDArray[np.float32]:
        """Encode pictures that have the tower's size already, so that they are neither resized nor padded.

        Args:
            pictures: RGB, uint8 [n, image_size, image_size, 3].
            n_embd: width of the language model.

        Returns:
            Image embeddings, float32 [n, n_image_tokens, n_embd].
        """
        with tempfile.TemporaryDirectory(prefix="aesedge-") as folder:
            given, answer = Path(folder) / "pictures.npy", Path(folder) / "rows.npy"
            np.save(given, pictures)
            self._ask("encode", pictures=str(given), rows=str(answer), n_embd=n_embd)
            rows: npt.NDArray[np.float32] = np.load(answer)
            return rows

    def prompt(self, photo: Path, text: str) -> Prompted:
        """Clear the KV cache and prefill a prompt with a photo.

        Args:
            photo: a file that libmtmd reads (JPEG, PNG, BMP).
            text: the prompt, with one ``MARKER``, and text after it.
        """
        return Prompted(**self._ask("prompt", photo=str(photo), text=text))

    def generate(self, n_tokens: int) -> Generated:
        """Generate ``n_tokens`` greedily after the prompt, end tokens included."""
        return Generated(**self._ask("generate", n_tokens=n_tokens))

    def llama_bench(self, n_prompt: int, n_generate: int, n_depth: int = 0) -> Rates:
        """Do what llama-bench times: the calls of its ``pp`` and ``tg`` tests (tools/llama-bench/llama-bench.cpp).

        Args:
            n_prompt: random tokens that are prefilled into an empty cache; 0 leaves the cache as it is.
            n_generate: random tokens that are decoded one by one.
            n_depth: positions in the cache before them, whatever they hold: more are cut off, and what is missing is
                prefilled, both without being timed.
        """
        return Rates(**self._ask("llama_bench", n_prompt=n_prompt, n_generate=n_generate, n_depth=n_depth))

    def _ask(self, command: str, **values: object) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 (for mypy)
        assert stdout is not None  # noqa: S101 (for mypy)
        line = b""
        try:
            stdin.write(json.dumps({"command": command, **values}).encode() + b"\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            pass
        answer: dict[str, Any] = json.loads(line) if line else {"error": ""}
        if "error" in answer:
            raise InferenceError(
                f"{self._name}: llama.cpp by itself (libmtmd) cannot be asked: "
                f"{answer['error'] or self._reason()}; go on without comparing, or with another file"
            )
        return answer

    def _reason(self) -> str:
        """Return the most telling line that the process printed."""
        status = self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        signs = ("assert", "error", "fail", "unknown", "unable")
        telling = [line for line in lines if any(sign in line.lower() for sign in signs)]
        return telling[-1] if telling else f"exit status {status}"

    def close(self) -> None:
        """End the process. Closing twice does nothing."""
        self._process.kill()
        self._process.communicate()
        self._log.close()
