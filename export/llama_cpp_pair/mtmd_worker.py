"""Serve ``mtmd_process``: calls of libmtmd and llama.cpp, one JSON object per line in and out.

Whatever is not asked for is at llama.cpp's defaults: this is what its users run.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from typing import Any

import numpy as np

from aesedge.errors import InferenceError
from aesedge.llm import binding
from aesedge.llm.raw_timing import decode_ns

from .mtmd_process import MARKER


class _Worker:
    """One mmproj, and one language model if there is any."""

    def open(
        self,
        *,
        mmproj: str | None,
        llm: str | None,
        n_threads: int,
        n_threads_batch: int,
        n_ctx: int,
        gpu: bool,
        settings: dict[str, Any],
    ) -> dict[str, Any]:
        """Load the files."""
        from llama_cpp import mtmd_cpp

        self._llama, self._mtmd = binding.load(), mtmd_cpp
        self._model = self._context = None
        if llm is not None:
            of_model = self._llama.llama_model_default_params()
            asked = settings["gpu_layers"]
            n_layers = 2**31 - 1 if asked is None or asked < 0 else asked
            of_model.n_gpu_layers = n_layers if gpu else 0
            if settings["repack"] is not None:
                of_model.use_extra_bufts = settings["repack"]
            self._model = _loaded(self._llama.llama_model_load_from_file(llm.encode(), of_model), llm)
            of_context = self._llama.llama_context_default_params()
            of_context.n_ctx = n_ctx
            of_context.n_threads, of_context.n_threads_batch = n_threads, n_threads_batch
            if settings["flash_attention"] is not None:
                of_context.flash_attn_type = int(settings["flash_attention"])
            if settings["n_ubatch"] is not None:
                of_context.n_ubatch = settings["n_ubatch"]
            self._context = _loaded(self._llama.llama_init_from_model(self._model, of_context), llm)
            self._n_batch = of_context.n_batch
        if mmproj is None:
            return {}
        options = mtmd_cpp.mtmd_context_params_default()
        options.use_gpu = gpu
        options.warmup = False
        options.print_timings = False
        options.n_threads = n_threads_batch
        options.media_marker = MARKER.encode()
        self._encoder = _loaded(mtmd_cpp.mtmd_init_from_file(mmproj.encode(), self._model, options), mmproj)
        return {}

    def encode(self, *, pictures: str, rows: str, n_embd: int) -> dict[str, Any]:
        """Encode pictures from one file of numpy's into another."""
        np.save(rows, np.stack([self._rows(picture, n_embd) for picture in np.load(pictures)]))
        return {}

    def _rows(self, picture: Any, n_embd: int) -> Any:
        lib = self._mtmd
        height, width, _ = picture.shape
        data = np.ascontiguousarray(picture).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        chunks = self._chunks(lib.mtmd_bitmap_init(width, height, data), MARKER, is_prompt=False)
        found = [lib.mtmd_input_chunks_get(chunks, i) for i in range(lib.mtmd_input_chunks_size(chunks))]
        (image,) = [c for c in found if lib.mtmd_input_chunk_get_type(c) == lib.MTMD_INPUT_CHUNK_TYPE_IMAGE]
        n_rows = lib.mtmd_input_chunk_get_n_tokens(image)
        _check(lib.mtmd_encode_chunk(self._encoder, image), "libmtmd failed to encode")
        flat = np.ctypeslib.as_array(lib.mtmd_get_output_embd(self._encoder), shape=(n_rows * n_embd,))
        rows = flat.reshape(n_rows, n_embd).copy()
        lib.mtmd_input_chunks_free(chunks)
        return rows

    def _chunks(self, bitmap: Any, text: str, *, is_prompt: bool) -> Any:
        """Return text and image as libmtmd divides them; the bitmap is freed."""
        lib, data = self._mtmd, text.encode()
        chunks = lib.mtmd_input_chunks_init()
        given = lib.mtmd_input_text(data, len(data), is_prompt, True)
        status = lib.mtmd_tokenize(self._encoder, chunks, ctypes.byref(given), (ctypes.c_void_p * 1)(bitmap), 1)
        lib.mtmd_bitmap_free(bitmap)
        _check(status, "libmtmd does not take the picture")
        return chunks

    def prompt(self, *, photo: str, text: str) -> dict[str, Any]:
        """Read a prompt from its beginning."""
        lib = self._mtmd
        self._llama.llama_memory_clear(self._llama.llama_get_memory(self._context), True)
        started = time.perf_counter()
        bitmap = lib.mtmd_helper_bitmap_init_from_file(self._encoder, photo.encode(), False)
        if not bitmap:
            raise RuntimeError(f"libmtmd does not read {photo}")
        chunks = self._chunks(bitmap, text, is_prompt=True)
        spent = {"decode_image_s": time.perf_counter() - started, "vision_s": 0.0, "prefill_s": 0.0}
        self._n_past, n = 0, lib.mtmd_input_chunks_size(chunks)
        for i in range(n):
            chunk = lib.mtmd_input_chunks_get(chunks, i)
            if lib.mtmd_input_chunk_get_type(chunk) == lib.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                before = time.perf_counter()
                _check(lib.mtmd_encode_chunk(self._encoder, chunk), "libmtmd failed to encode")
                spent["vision_s"] += time.perf_counter() - before
                spent["prefill_s"] += self._timed_image(chunk)
            else:
                spent["prefill_s"] += self._timed_text(chunk, is_last=i == n - 1)
        lib.mtmd_input_chunks_free(chunks)
        return {**spent, "n_tokens": self._n_past, "token": self._likeliest()}

    def _timed_image(self, chunk: Any) -> float:
        lib, past = self._mtmd, ctypes.c_int32(self._n_past)
        rows = lib.mtmd_get_output_embd(self._encoder)
        before = time.perf_counter()
        status = lib.mtmd_helper_decode_image_chunk(
            self._encoder,
            self._context,
            chunk,
            rows,
            self._n_past,
            0,
            self._n_batch,
            ctypes.byref(past),
            lib.mtmd_helper_post_decode_callback(),
            None,
        )
        _check(status, "llama.cpp failed to decode the image")
        self._n_past = past.value
        return time.perf_counter() - before

    def _timed_text(self, chunk: Any, *, is_last: bool) -> float:
        past = ctypes.c_int32(self._n_past)
        before = time.perf_counter()
        status = self._mtmd.mtmd_helper_eval_chunk_single(
            self._encoder, self._context, chunk, self._n_past, 0, self._n_batch, is_last, ctypes.byref(past)
        )
        _check(status, "llama.cpp failed to decode the text")
        if is_last:
            self._likeliest()  # which waits for a device
        self._n_past = past.value
        return time.perf_counter() - before

    def generate(self, *, n_tokens: int) -> dict[str, Any]:
        """Generate greedily."""
        tokens: list[int] = []
        started = time.perf_counter()
        for _ in range(n_tokens):
            tokens.append(self._likeliest())
            one = (ctypes.c_int32 * 1)(tokens[-1])
            _check(self._llama.llama_decode(self._context, self._llama.llama_batch_get_one(one, 1)), "llama.cpp failed")
        self._likeliest()
        return {"decode_s": time.perf_counter() - started, "tokens": tokens}

    def llama_bench(self, *, n_prompt: int, n_generate: int, n_depth: int) -> dict[str, Any]:
        """Time prefill of random tokens into an empty cache, and decode behind ``n_depth`` positions."""
        took = {"prompt_s": 0.0, "generate_s": 0.0}
        if n_prompt:
            self._hold(0)
            took["prompt_s"] = self._append(n_prompt, self._n_batch)
        if n_generate:
            self._hold(n_depth)
            took["generate_s"] = self._append(n_generate, 1)
        return took

    def _hold(self, n_positions: int) -> None:
        """Fill or truncate the cache to ``n_positions``."""
        lib = self._llama
        memory = lib.llama_get_memory(self._context)
        n_held = lib.llama_memory_seq_pos_max(memory, 0) + 1
        if n_positions == 0:
            lib.llama_memory_clear(memory, False)
        elif n_held > n_positions:
            lib.llama_memory_seq_rm(memory, 0, n_positions, -1)
        elif n_held < n_positions:
            self._append(n_positions - n_held, self._n_batch)

    def _append(self, n: int, n_at_once: int) -> float:
        """Append random tokens; return the seconds it took."""
        n_vocab = self._llama.llama_vocab_n_tokens(self._llama.llama_model_get_vocab(self._model))
        tokens = np.random.default_rng().integers(n_vocab, size=n, dtype=np.int32)
        return decode_ns(self._context, tokens, n_at_once) / 1e9

    def _likeliest(self) -> int:
        vocabulary = self._llama.llama_model_get_vocab(self._model)
        n_vocab = self._llama.llama_vocab_n_tokens(vocabulary)
        logits = np.ctypeslib.as_array(self._llama.llama_get_logits_ith(self._context, -1), shape=(n_vocab,))
        return int(logits.argmax())


def _loaded(handle: Any, path: str) -> Any:
    if not handle:
        raise RuntimeError(f"{path}: {binding.last_complaint() or 'libmtmd does not load it'}")
    return handle


def _check(status: int, problem: str) -> None:
    if status != 0:
        raise RuntimeError(f"{problem} (status {status})")


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what the libraries print is no answer
    worker = _Worker()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = getattr(worker, asked.pop("command"))(**asked)
        except (RuntimeError, InferenceError) as error:
            answer = {"error": " ".join(str(error).split())}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
