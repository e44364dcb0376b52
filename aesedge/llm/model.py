"""Load the language model's weights and vocabulary with llama.cpp."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aesedge.errors import BundleFormatError, InferenceError, ModelLoadError, UsageError
from aesedge.llm import binding
from aesedge.system.closing import Closing
from aesedge.system.interrupt import Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_ARCHITECTURE = "llama"  # what LLaVA-1.5 and Vicuna are; the prompt and the positions are written for it
_MAX_PIECE_BYTES = 256


class LanguageModel(Closing):
    """The language model in a GGUF file.

    Args:
        path: the GGUF file.
        gpu_layers: number of layers on the GPU; -1 is all.
        progress: called with the loaded fraction, 0..1.
        vocab_only: load the vocabulary without the weights.
        repack: whether llama.cpp may copy weights into layouts for this CPU (its default). Without, they stay in the
            file's mapped pages, which the system can drop and read again: a file larger than memory runs.

    Raises:
        ModelLoadError: llama.cpp refuses the file.
        BundleFormatError: the file holds another architecture.
    """

    def __init__(
        self,
        path: Path,
        *,
        gpu_layers: int = 0,
        progress: Callable[[float], None] | None = None,
        vocab_only: bool = False,
        repack: bool = True,
    ) -> None:
        self._lib = binding.load()
        # Threads that process photos use the vocabulary while another thread may close the model.
        self._using_vocab = threading.Lock()
        self.path = path
        self.handle: Any = self._load(gpu_layers, progress, vocab_only=vocab_only, repack=repack)
        try:
            self._read_facts()
        except BaseException:
            self.close()
            raise

    def _load(
        self, gpu_layers: int, progress: Callable[[float], None] | None, *, vocab_only: bool, repack: bool
    ) -> Any:
        lib = self._lib
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 2**31 - 1
        params.vocab_only = vocab_only
        params.use_extra_bufts = repack
        binding.clear_log()
        with Interrupt() as interrupt:

            def report(fraction: float, _user_data: object) -> bool:
                if progress is not None:
                    progress(fraction)
                return not interrupt.requested

            # The callback must outlive the call, so it is held by this frame and not made inline.
            params.progress_callback = callback = lib.llama_progress_callback(report)
            handle = lib.llama_model_load_from_file(str(self.path).encode(), params)
            del callback
        if not handle:
            raise ModelLoadError(
                f"{self.path}: llama.cpp cannot load it: {binding.reason()}; export or install the bundle again"
            )
        return handle

    def _read_facts(self) -> None:
        lib = self._lib
        architecture = self.metadata("general.architecture")
        if architecture != _ARCHITECTURE:
            raise BundleFormatError(
                f"{self.path}: holds the architecture {architecture!r}, a LLaVA-1.5 language model is "
                f"{_ARCHITECTURE!r}; export or install the bundle again"
            )
        self._vocab = lib.llama_model_get_vocab(self.handle)
        self.n_vocab: int = lib.llama_vocab_n_tokens(self._vocab)
        self.n_embd: int = lib.llama_model_n_embd_inp(self.handle)
        self.n_ctx_train: int = lib.llama_model_n_ctx_train(self.handle)
        self.bos: int = lib.llama_vocab_bos(self._vocab)
        self.eos: int = lib.llama_vocab_eos(self._vocab)
        if not (0 <= self.bos < self.n_vocab and 0 <= self.eos < self.n_vocab):
            raise BundleFormatError(
                f"{self.path}: has no token that begins or ends a text; export or install the bundle again"
            )

    def metadata(self, key: str) -> str | None:
        """Return a value of the GGUF header as text, or None."""
        buffer = ctypes.create_string_buffer(512)
        n = self._lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if n >= 0 else None

    @property
    def type_name(self) -> str:
        """llama.cpp's description, e.g. ``llama 7B Q4_K - Medium``."""
        buffer = ctypes.create_string_buffer(256)
        self._lib.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def n_bytes(self) -> int:
        """Bytes of all weights."""
        return int(self._lib.llama_model_size(self.handle))

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return int(self._lib.llama_model_n_params(self.handle))

    # With the vocabulary alone llama.cpp does not know these, and aborts when it is asked for heads.

    @property
    def n_layer(self) -> int:
        """Layers."""
        return int(self._lib.llama_model_n_layer(self.handle))

    @property
    def n_head(self) -> int:
        """Heads of each layer."""
        return int(self._lib.llama_model_n_head(self.handle))

    @property
    def n_head_kv(self) -> int:
        """Heads that have keys and values of their own."""
        return int(self._lib.llama_model_n_head_kv(self.handle))

    @property
    def n_values_per_position(self) -> int:
        """Numbers that a position has in the KV cache: a key and a value of every layer."""
        return 2 * self.n_layer * self.n_head_kv * (self.n_embd // self.n_head)

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Return the token ids of one piece of text, without BOS, with the tokenizer's dummy-prefix space.

        Args:
            text: any text; empty text has no tokens.
            parse_special: whether ``</s>`` in the text means the token and not its five letters. What a user
                types must not.
        """
        if not text:
            return []
        data = text.encode("utf-8", "replace")
        # SentencePiece with byte fallback makes at most one token a byte, and one for the dummy prefix.
        tokens = (ctypes.c_int32 * (len(data) + 2))()
        with self._using_vocab:
            self._check_open()
            n = self._lib.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), False, parse_special)
        if n < 0:
            raise InferenceError(f"{self.path}: llama.cpp cannot tokenize a text of {len(data)} bytes")
        return list(tokens[:n])

    def piece(self, token: int) -> bytes:
        """Return the bytes that a token stands for: part of a UTF-8 character, or several; none for control tokens."""
        buffer = ctypes.create_string_buffer(_MAX_PIECE_BYTES)
        with self._using_vocab:
            self._check_open()
            n = self._lib.llama_token_to_piece(self._vocab, token, buffer, _MAX_PIECE_BYTES, 0, False)
            if n < 0:
                buffer = ctypes.create_string_buffer(-n)
                n = self._lib.llama_token_to_piece(self._vocab, token, buffer, -n, 0, False)
        return buffer.raw[: max(n, 0)]

    def is_end(self, token: int) -> bool:
        """Return whether this token ends the generation (llama.cpp's EOG tokens)."""
        with self._using_vocab:
            self._check_open()
            return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def check_tokens(self, ids: Sequence[int]) -> npt.NDArray[np.int32]:
        """Return token ids as an array, checked to be in the vocabulary: llama.cpp does not check them.

        Raises:
            InferenceError: one is not.
        """
        tokens = np.array(ids, np.int32)
        if len(tokens) and not (tokens.min() >= 0 and tokens.max() < self.n_vocab):
            raise InferenceError(f"token id outside the vocabulary of {self.n_vocab}")
        return tokens

    def check_embeddings(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return image embeddings as C-contiguous float32 [n, n_embd], checked: llama.cpp would read past their end.

        Raises:
            InferenceError: another shape, another dtype, or a number that is not finite.
        """
        if rows.ndim != 2 or rows.shape[1] != self.n_embd or rows.dtype != np.float32:
            raise InferenceError(
                f"image embeddings are {rows.dtype} {list(rows.shape)}, the language model reads float32 "
                f"[n, {self.n_embd}]; vision graph and GGUF are not of one bundle"
            )
        if not np.isfinite(rows).all():
            raise InferenceError("the vision graph returned numbers that are not finite; export the bundle again")
        return np.ascontiguousarray(rows)

    def check_logits(self, logits: npt.NDArray[np.float32]) -> None:
        """Check that all logits are finite.

        Raises:
            InferenceError: one is not.
        """
        if not np.isfinite(logits).all():
            raise InferenceError(
                f"{self.path}: the language model returned numbers that are not finite; export or install the bundle "
                "again"
            )

    def _check_open(self) -> None:
        if not self.handle:  # llama.cpp would use a freed pointer
            raise UsageError("this model was closed")

    def close(self) -> None:
        """Free the weights. Contexts of this model must be closed before. Closing twice does nothing."""
        handle, self.handle = self.handle, None  # no new call can start from here on
        if handle:
            with self._using_vocab:
                self._lib.llama_model_free(handle)
