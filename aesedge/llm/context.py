"""Wrap a llama_context: a KV cache and the calls that fill it with tokens and embeddings.

llama.cpp aborts the process on too many tokens in a batch, a sequence id out of range, an embedding of the wrong width
and a full cache; all of this is checked here first.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aesedge.errors import ContextFullError, InferenceError, ModelLoadError, UsageError
from aesedge.llm import binding
from aesedge.llm.accelerator import accelerated
from aesedge.llm.batch import TokenBatch, laid_out, pointer
from aesedge.llm.kv_cells import KVCells
from aesedge.llm.limits import FLASH_AUTO, KV_TYPES, N_BATCH_MAX, padded_n_ctx
from aesedge.system.closing import Closing
from aesedge.system.interrupt import AbortFlag, Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.llm.model import LanguageModel

_ABORTED = 2  # llama_decode's status after the abort callback returned true


class Aborted(Exception):  # noqa: N818 (requested, not an error)
    """A computation was stopped through :attr:`Context.abort`; the KV cache is unchanged."""


class Context(Closing):
    """One unified KV cache over a model.

    Args:
        model: the weights; they must outlive the context.
        n_ctx: positions over all sequences, shared ones counted once.
        n_seq_max: number of sequences.
        n_threads: CPU threads for decoding.
        n_threads_batch: CPU threads for prefill; None means ``n_threads``.
        kv_type: ``f16`` or ``q8_0``; the latter needs flash attention.
        flash_attention: whether to use fused attention where the device supports it.
        kernels: whether to compute products with aesedge's own kernels where there are any, see
            :mod:`aesedge.llm.accelerator`.
        on_node: llama.cpp's ``cb_eval``: called with the address of every tensor of a graph and True before it is
            computed, and again with False after it if the first call returned True. It must not raise. With it, logits
            are computed for every position.

    Raises:
        ModelLoadError: there is not enough memory.
        UsageError: the KV type is unknown.
    """

    def __init__(  # noqa: PLR0913 (one for each of llama.cpp's)
        self,
        model: LanguageModel,
        *,
        n_ctx: int,
        n_seq_max: int,
        n_threads: int,
        n_threads_batch: int | None = None,
        kv_type: str = "f16",
        flash_attention: bool = True,
        kernels: bool = False,
        on_node: Callable[[int, bool], bool] | None = None,
    ) -> None:
        if kv_type not in KV_TYPES:
            raise UsageError(f"unknown KV type {kv_type!r}; there are {', '.join(KV_TYPES)}")
        self._lib: Any = binding.load()
        self.model, self.kv_type = model, kv_type
        self.n_ctx, self.n_seq_max = padded_n_ctx(n_ctx), n_seq_max
        self.n_batch = min(self.n_ctx, N_BATCH_MAX)
        self.abort = AbortFlag()
        """Set by another thread to make the running call raise ``Aborted``; that thread clears it again."""
        callback = self._lib.ggml_backend_sched_eval_callback
        self._on_node = on_node and callback(lambda tensor, ask, _data: on_node(tensor, ask))
        with accelerated(wanted=kernels):
            self.handle: Any = self._open(n_threads, n_threads_batch or n_threads, flash_attention=flash_attention)
        self._memory = self._lib.llama_get_memory(self.handle)
        self._cells = KVCells(self.n_ctx)

    def _open(self, n_threads: int, n_threads_batch: int, *, flash_attention: bool) -> Any:
        lib = self._lib
        params = lib.llama_context_default_params()
        params.n_ctx = self.n_ctx
        params.n_batch = params.n_ubatch = self.n_batch
        params.n_seq_max = self.n_seq_max
        params.n_threads, params.n_threads_batch = n_threads, n_threads_batch
        params.type_k = params.type_v = KV_TYPES[self.kv_type]
        params.flash_attn_type = FLASH_AUTO if flash_attention else 0
        params.kv_unified = True  # else each sequence gets n_ctx / n_seq_max cells, and forks share none
        params.no_perf = True
        params.abort_callback = ctypes.cast(self.abort.callback, lib.ggml_abort_callback)
        params.abort_callback_data = self.abort.data
        if self._on_node is not None:
            params.cb_eval = self._on_node
            params.op_offload = False  # large batches would be computed on a GPU, where tensors have other names
        binding.clear_log()
        with Interrupt():  # within llama.cpp's log callback Ctrl-C would be lost
            handle = lib.llama_init_from_model(self.model.handle, params)
        if not handle:
            raise ModelLoadError(
                f"{self.model.path}: no context of {self.n_ctx} positions: {binding.reason()}; "
                "try a smaller --ctx, or --kv-type f16"
            )
        return handle

    @property
    def build(self) -> str:
        """Version of the package, and llama.cpp's system info: what it was built for and found on this machine."""
        return f"{binding.version()} {self._lib.llama_print_system_info().decode('utf-8', 'replace')}"

    @property
    def is_open(self) -> bool:
        """Whether :meth:`close` has not been called."""
        return self.handle is not None

    @property
    def n_free(self) -> int:
        """Number of free KV cells."""
        return self._cells.n_free

    def n_past(self, seq_id: int) -> int:
        """Return the number of positions in a sequence."""
        return self._cells.n_positions(seq_id)

    def prefill_tokens(self, seq_id: int, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Append tokens to a sequence.

        Returns:
            Logits after the last token, float32 [n_vocab].

        Raises:
            ContextFullError: they do not fit; nothing was changed.
            InferenceError: llama.cpp failed; the sequence is as it was before.
        """
        logits: npt.NDArray[np.float32] = self.prefill_many([(seq_id, tokens)])[0]
        return logits

    def prefill_forced(self, seq_id: int, tokens: Sequence[int], *, n_last: int) -> npt.NDArray[np.float32]:
        """Append tokens to a sequence, and return the logits after each of the last ``n_last`` of them.

        Returns:
            Logits, float32 [n_last, n_vocab].

        Raises:
            UsageError: there are fewer tokens than that.
        """
        n = len(tokens)
        if not 0 < n_last <= n:
            raise UsageError(f"logits after {n_last} of {n} tokens were asked for")
        return self._decode(
            np.full(n, seq_id, np.int32), np.arange(n - n_last, n), tokens=self.model.check_tokens(tokens)
        )

    def prefill_many(self, parts: Sequence[tuple[int, Sequence[int]]]) -> npt.NDArray[np.float32]:
        """Append tokens to several sequences in as few batches as possible.

        Args:
            parts: pairs of sequence id and tokens, one or more each.

        Returns:
            Logits after the last token of each part, float32 [n_parts, n_vocab].
        """
        if any(not part for _, part in parts):
            raise UsageError("nothing to prefill: a part without tokens")
        seq_ids, ends = laid_out(parts)
        return self._decode(seq_ids, ends, tokens=self.model.check_tokens([t for _, part in parts for t in part]))

    def prefill_embeddings(self, seq_id: int, embeddings: npt.NDArray[np.float32]) -> None:
        """Append embeddings, float32 [n, n_embd], in place of tokens. Errors are those of ``prefill_tokens``."""
        self.prefill_embeddings_many([(seq_id, embeddings)])

    def prefill_embeddings_many(self, parts: Sequence[tuple[int, npt.NDArray[np.float32]]]) -> None:
        """Append embeddings, float32 [n, n_embd] each, to several sequences in as few batches as possible."""
        checked = [self.model.check_embeddings(part) for _, part in parts]
        together = checked[0] if len(checked) == 1 else np.concatenate(checked)
        self._decode(laid_out(parts)[0], np.empty(0, np.int64), embeddings=together)

    def append(self, parts: Sequence[tuple[int, Sequence[int]]], wanted: Sequence[bool]) -> list[int]:
        """Append tokens to several sequences in one batch, and leave the logits in place for samplers.

        Args:
            parts: pairs of sequence id and tokens, one or more each, ``n_batch`` tokens at most in all.
            wanted: for each part, whether the logits after its last token are wanted.

        Returns:
            The index of each part's last token in the batch, for :meth:`logits` and samplers, until the next call.

        Raises:
            ContextFullError: they do not fit; nothing was changed.
            InferenceError: llama.cpp failed; the sequences are as they were before.
        """
        lengths = [len(part) for _, part in parts]
        if 0 in lengths or sum(lengths) > self.n_batch:
            raise UsageError(f"a batch takes 1 to {self.n_batch} tokens, at least one of each part: {lengths}")
        seq_ids, ends = laid_out(parts)
        tokens = self.model.check_tokens([t for _, part in parts for t in part])
        self._decode(seq_ids, ends[np.asarray(wanted, bool)], tokens=tokens, fetch=False)
        return [int(end) for end in ends]

    def fork(self, source: int, target: int) -> None:
        """Replace ``target`` with a copy of ``source`` that shares its cells."""
        self._check_seq_ids(np.array([source, target]))
        self.truncate(target, 0)
        self._lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._cells.share(source, target)

    def truncate(self, seq_id: int, n_positions: int) -> None:
        """Remove all but the first positions of a sequence."""
        self._check_seq_ids(np.array([seq_id]))
        if n_positions < self._cells.n_positions(seq_id):
            self._lib.llama_memory_seq_rm(self._memory, seq_id, n_positions, -1)
            self._cells.truncate(seq_id, n_positions)

    def save(self, seq_id: int) -> npt.NDArray[np.uint8]:
        """Return the KV state of a sequence as bytes for :meth:`restore`: keys and values, no logits."""
        self._check_seq_ids(np.array([seq_id]))
        state = np.empty(self._lib.llama_state_seq_get_size(self.handle, seq_id), np.uint8)
        written = self._lib.llama_state_seq_get_data(self.handle, pointer(state, ctypes.c_uint8), len(state), seq_id)
        if written != len(state):
            raise InferenceError(f"llama.cpp wrote {written} of {len(state)} bytes of a sequence's state")
        return state

    def restore(self, seq_id: int, state: npt.NDArray[np.uint8], n_positions: int) -> None:
        """Replace a sequence with a state that :meth:`save` returned, of the same model, KV type and llama.cpp build.

        llama.cpp compares layers, types and row sizes only, and would accept another model's state of the same shape:
        the key under which the caller stores it must cover everything it depends on.

        Args:
            seq_id: the sequence.
            state: uint8, contiguous.
            n_positions: number of positions in it.

        Raises:
            ContextFullError: it does not fit; nothing was changed.
            InferenceError: llama.cpp refuses it; the sequence is empty.
        """
        self.truncate(seq_id, 0)
        self._check_free(n_positions)
        binding.clear_log()
        read = self._lib.llama_state_seq_set_data(self.handle, pointer(state, ctypes.c_uint8), len(state), seq_id)
        if read == len(state) and self._lib.llama_memory_seq_pos_max(self._memory, seq_id) == n_positions - 1:
            self._cells.append(seq_id, n_positions)
            return
        self._lib.llama_memory_seq_rm(self._memory, seq_id, -1, -1)
        raise InferenceError(f"llama.cpp refuses a saved state: {binding.reason()}")

    def _check_seq_ids(self, seq_ids: npt.NDArray[Any]) -> None:
        if not self.is_open:  # llama.cpp would use a freed pointer
            raise UsageError("this model was closed")
        if len(seq_ids) and not (seq_ids.min() >= 0 and seq_ids.max() < self.n_seq_max):
            raise UsageError(f"sequence id outside 0..{self.n_seq_max - 1}")

    def _check_free(self, n: int) -> None:
        if n > self.n_free:
            raise ContextFullError(
                f"{n} more positions do not fit: {self.n_free} of {self.n_ctx} are free; use a larger --ctx"
            )

    def _decode(
        self,
        seq_ids: npt.NDArray[np.int32],
        outputs: npt.NDArray[Any],
        *,
        tokens: npt.NDArray[np.int32] | None = None,
        embeddings: npt.NDArray[np.float32] | None = None,
        fetch: bool = True,
    ) -> npt.NDArray[np.float32]:
        """Run tokens or embeddings through the model in batches of at most ``n_batch``; on an error undo all of them.

        Args:
            seq_ids: sequence of each token or embedding, int32 [n].
            outputs: indices of those whose logits are wanted, ascending.
            tokens: token ids, int32 [n], or
            embeddings: float32 [n, n_embd].
            fetch: whether to copy the logits out.
        """
        self._check_seq_ids(seq_ids)
        self._check_free(len(seq_ids))
        added = Counter(seq_ids.tolist())
        before = {seq_id: self._cells.n_positions(seq_id) for seq_id in added}
        longest = max((n + added[seq_id] for seq_id, n in before.items()), default=0)
        if longest > self.model.n_ctx_train:
            raise ContextFullError(
                f"position {longest} is beyond the {self.model.n_ctx_train} that the model was trained for; ask "
                "something shorter or begin a new conversation"
            )
        logits: list[npt.NDArray[np.float32]] = []
        try:
            for start in range(0, len(seq_ids), self.n_batch):
                part = slice(start, start + self.n_batch)
                wanted = outputs[(outputs >= start) & (outputs < start + self.n_batch)] - start
                ids = None if tokens is None else tokens[part]
                self._decode_batch(seq_ids[part], wanted, ids, None if embeddings is None else embeddings[part])
                if fetch:
                    logits += [self.logits(int(i)) for i in wanted]
        except BaseException:
            for seq_id, n_positions in before.items():
                self._lib.llama_memory_seq_rm(self._memory, seq_id, n_positions, -1)
                self._cells.truncate(seq_id, n_positions)
            raise
        return np.stack(logits) if logits else np.empty((0, self.model.n_vocab), np.float32)

    def _decode_batch(
        self,
        seq_ids: npt.NDArray[np.int32],
        wanted: npt.NDArray[Any],
        tokens: npt.NDArray[np.int32] | None,
        embeddings: npt.NDArray[np.float32] | None,
    ) -> None:
        """Decode one batch and count its cells."""
        added: Counter[int] = Counter()
        positions = np.empty(len(seq_ids), np.int32)
        for i, seq_id in enumerate(seq_ids.tolist()):
            positions[i] = self._cells.n_positions(seq_id) + added[seq_id]
            added[seq_id] += 1
        outputs = np.zeros(len(seq_ids), np.int8)
        outputs[wanted if self._on_node is None else slice(None)] = 1
        binding.clear_log()
        with Interrupt(self.abort.set) as interrupt:
            status = TokenBatch(seq_ids, positions, outputs, tokens, embeddings).decode(self._lib, self.handle)
            if interrupt.requested:
                self.abort.clear()
                raise KeyboardInterrupt
        if status == _ABORTED:
            raise Aborted
        if status != 0:
            raise InferenceError(f"llama.cpp stopped with code {status}: {binding.reason()}")
        for seq_id, n in added.items():
            self._cells.append(seq_id, n)

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """Return a copy of the logits after a token of the last batch, float32 [n_vocab]."""
        if not (pointer := self._lib.llama_get_logits_ith(self.handle, index)):
            raise InferenceError(f"llama.cpp has no logits for token {index} of the batch")
        row = ctypes.string_at(pointer, 4 * self.model.n_vocab)  # as_array would leave a cycle for each token
        return np.frombuffer(row, np.float32).copy()

    def close(self) -> None:
        """Free the cache. Closing twice does nothing."""
        handle, self.handle = self.handle, None
        if handle:
            self._lib.llama_free(handle)
