"""A KV cache and the calls that fill it: tokens, embeddings, several sequences; knows positions, not their meaning.

Everything that llama.cpp would answer with an abort of the process (too many rows in a batch, a sequence id out of
range, a row of another width, a full cache) is checked here first.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aesedge.errors import ContextFullError, InferenceError, ModelLoadError, UsageError
from aesedge.llm import binding
from aesedge.llm.kv_cells import CellLedger
from aesedge.system.closing import Closing
from aesedge.system.interrupt import AbortFlag, Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.llm.model import LanguageModel

KV_TYPES = {"f16": 1, "q8_0": 8}  # ggml_type
_PAD = 256  # llama.cpp rounds the number of cells up to this
FLASH_AUTO = -1  # llama_flash_attn_type
_ABORTED = 2  # llama_decode's answer when the abort callback said so
N_SEQ_MAX = 64  # sequences cost llama.cpp next to nothing in a unified cache
N_BATCH_MAX = 1024  # enough for LLaVA-1.5's 576 image tokens and the text around them in one graph


def even_chunk(n: int, chunk: int) -> int:
    """Return the size of the parts of n rows, which is at most a chunk.

    Even parts, because llama.cpp computes attention otherwise (sums in float16) where a batch has fewer than 64 rows:
    what is cut off at the end should not be such a remainder.
    """
    return -(-n // -(-n // chunk))


class Aborted(Exception):  # noqa: N818 (no error: somebody wanted it)
    """A computation was stopped through :attr:`Context.abort`; everything is as it was before."""


class Context(Closing):
    """One unified KV cache over a model.

    Args:
        model: the weights; they must outlive the context.
        n_ctx: positions to hold, over all sequences, shared ones counted once.
        n_seq_max: how many sequences there may be.
        n_threads: CPU threads that decode.
        n_threads_batch: CPU threads that prefill; None takes as many.
        kv_type: ``f16`` or ``q8_0``; the latter needs flash attention.
        flash_attention: whether attention is computed in one fused operation, where the device can.
        on_node: llama.cpp's ``cb_eval``: called with the address of every tensor of a graph and True before it is
            computed, and again with False after it where the first answer was True. It must not raise. With it every
            row goes through the whole model, as where its logits are wanted.

    Raises:
        ModelLoadError: there is not enough memory for it.
        UsageError: an unknown KV type.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        n_ctx: int,
        n_seq_max: int,
        n_threads: int,
        n_threads_batch: int | None = None,
        kv_type: str = "f16",
        flash_attention: bool = True,
        on_node: Callable[[int, bool], bool] | None = None,
    ) -> None:
        if kv_type not in KV_TYPES:
            raise UsageError(f"unknown KV type {kv_type!r}; there are {', '.join(KV_TYPES)}")
        self._lib: Any = binding.load()
        self.model = model
        self.kv_type = kv_type
        self.n_ctx = -(-n_ctx // _PAD) * _PAD
        self.n_seq_max = n_seq_max
        self.n_batch = min(self.n_ctx, N_BATCH_MAX)
        self.abort = AbortFlag()
        """Another thread may set it: what runs then raises ``Aborted``, and whoever set it clears it."""
        self._on_node = self._node_callback(on_node)
        self.handle: Any = self._open(n_threads, n_threads_batch or n_threads, flash_attention=flash_attention)
        self._memory = self._lib.llama_get_memory(self.handle)
        self._ledger = CellLedger(self.n_ctx)

    def _open(self, n_threads: int, n_threads_batch: int, *, flash_attention: bool) -> Any:
        lib = self._lib
        params = lib.llama_context_default_params()
        params.n_ctx = self.n_ctx
        params.n_batch = params.n_ubatch = self.n_batch
        params.n_seq_max = self.n_seq_max
        params.n_threads, params.n_threads_batch = n_threads, n_threads_batch
        params.type_k = params.type_v = KV_TYPES[self.kv_type]
        params.flash_attn_type = FLASH_AUTO if flash_attention else 0
        params.kv_unified = True  # forks share the image's cells; otherwise each sequence gets n_ctx / n_seq_max
        params.no_perf = True
        params.abort_callback = ctypes.cast(self.abort.callback, lib.ggml_abort_callback)
        params.abort_callback_data = self.abort.data
        if self._on_node is not None:
            params.cb_eval = self._on_node
            params.op_offload = False  # large batches would be computed on a GPU, where tensors have other names
        binding.clear_log()
        handle = lib.llama_init_from_model(self.model.handle, params)
        if not handle:
            reason = binding.last_complaint() or "no reason given"
            raise ModelLoadError(
                f"{self.model.path}: no context of {self.n_ctx} positions: {reason}; "
                "try a smaller --ctx, or --kv-type f16"
            )
        return handle

    def _node_callback(self, on_node: Callable[[int, bool], bool] | None) -> Any:
        if on_node is None:
            return None
        return self._lib.ggml_backend_sched_eval_callback(lambda tensor, ask, _data: on_node(tensor, ask))

    @property
    def build(self) -> str:
        """What computes: the package's version, and what llama.cpp was built for and found on this machine."""
        return f"{binding.version()} {self._lib.llama_print_system_info().decode('utf-8', 'replace')}"

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self.handle is not None

    @property
    def n_free(self) -> int:
        """Positions for which there is still room."""
        return self._ledger.n_free

    def n_past(self, seq_id: int) -> int:
        """Positions that a sequence holds."""
        return self._ledger.n_positions(seq_id)

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
        """Append tokens to a sequence, and return what the model would have said at each of the last ones.

        Args:
            seq_id: the sequence.
            tokens: one token or more.
            n_last: after how many of them, counted from the end, logits are wanted.

        Returns:
            Logits after each of the last ``n_last`` tokens, float32 [n_last, n_vocab].

        Raises:
            UsageError: there are fewer tokens than that.
        """
        if not 0 < n_last <= len(tokens):
            raise UsageError(f"logits after {n_last} of {len(tokens)} tokens were asked for")
        return self._prefill(
            np.full(len(tokens), seq_id, np.int32), tokens, np.arange(len(tokens) - n_last, len(tokens))
        )

    def prefill_many(self, parts: Sequence[tuple[int, Sequence[int]]]) -> npt.NDArray[np.float32]:
        """Append tokens to several sequences in as few batches as there can be.

        Args:
            parts: pairs of sequence and tokens, one or more each.

        Returns:
            Logits after the last token of each part, float32 [n_parts, n_vocab].
        """
        if any(not part for _, part in parts):
            raise UsageError("nothing to prefill: a part without tokens")
        ends = np.cumsum([len(part) for _, part in parts]) - 1
        seq_ids = np.repeat(np.array([s for s, _ in parts], np.int32), [len(part) for _, part in parts])
        return self._prefill(seq_ids, [t for _, part in parts for t in part], ends)

    def _prefill(
        self, seq_ids: npt.NDArray[np.int32], ids: Sequence[int], outputs: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        return self._decode(seq_ids, outputs, tokens=self._checked(ids))

    def _checked(self, ids: Sequence[int]) -> npt.NDArray[np.int32]:
        """Check token ids, which llama.cpp looks up without asking."""
        tokens = np.array(ids, np.int32)
        if len(tokens) and not (tokens.min() >= 0 and tokens.max() < self.model.n_vocab):
            raise InferenceError(f"token id outside the vocabulary of {self.model.n_vocab}")
        return tokens

    def prefill_embeddings(self, seq_id: int, rows: npt.NDArray[np.float32]) -> None:
        """Append embeddings, float32 [n, n_embd], in place of tokens. Errors are those of ``prefill_tokens``."""
        self.append_rows([(seq_id, rows)])

    def append_rows(self, parts: Sequence[tuple[int, npt.NDArray[np.float32]]]) -> None:
        """Append embeddings, float32 [n, n_embd] each, to several sequences in as few batches as there can be."""
        rows = [self.model.check_embeddings(part) for _, part in parts]
        seq_ids = np.repeat(np.array([s for s, _ in parts], np.int32), [len(part) for part in rows])
        together = rows[0] if len(rows) == 1 else np.concatenate(rows)
        self._decode(seq_ids, np.empty(0, np.int64), rows=together)

    def append(self, parts: Sequence[tuple[int, Sequence[int]]], wanted: Sequence[bool]) -> list[int]:
        """Append tokens to several sequences in one batch, and leave the logits where a sampler reads them.

        Args:
            parts: pairs of sequence and tokens, one or more each, ``n_batch`` tokens at most in all.
            wanted: for each part, whether the logits after its last token are wanted.

        Returns:
            For each part, the batch's row of its last token, for :meth:`logits` and samplers, until the next call.

        Raises:
            ContextFullError: they do not fit; nothing was changed.
            InferenceError: llama.cpp failed; the sequences are as they were before.
        """
        lengths = [len(part) for _, part in parts]
        if 0 in lengths or sum(lengths) > self.n_batch:
            raise UsageError(f"a batch takes 1 to {self.n_batch} tokens, at least one of each part: {lengths}")
        ends = np.cumsum(lengths) - 1
        seq_ids = np.repeat(np.array([s for s, _ in parts], np.int32), lengths)
        tokens = self._checked([t for _, part in parts for t in part])
        self._decode(seq_ids, ends[np.asarray(wanted, bool)], tokens=tokens, fetch=False)
        return [int(end) for end in ends]

    def fork(self, source: int, target: int) -> None:
        """Let ``target`` (emptied first) begin with all that ``source`` holds; takes no new cells."""
        self.truncate(target, 0)
        self._check_seq_ids(np.array([source, target]))
        self._lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._ledger.share(source, target)

    def truncate(self, seq_id: int, n_positions: int) -> None:
        """Let a sequence keep only its first positions."""
        self._check_seq_ids(np.array([seq_id]))
        if n_positions < self._ledger.n_positions(seq_id):
            self._lib.llama_memory_seq_rm(self._memory, seq_id, n_positions, -1)
            self._ledger.truncate(seq_id, n_positions)

    def save(self, seq_id: int) -> npt.NDArray[np.uint8]:
        """Return what a sequence holds, as bytes that :meth:`restore` reads: keys and values, no logits."""
        self._check_seq_ids(np.array([seq_id]))
        state = np.empty(self._lib.llama_state_seq_get_size(self.handle, seq_id), np.uint8)
        written = self._lib.llama_state_seq_get_data(self.handle, _pointer(state, ctypes.c_uint8), len(state), seq_id)
        if written != len(state):
            raise InferenceError(f"llama.cpp wrote {written} of {len(state)} bytes of a sequence's state")
        return state

    def restore(self, seq_id: int, state: npt.NDArray[np.uint8], n_positions: int) -> None:
        """Fill an empty sequence with what :meth:`save` returned, of the same model, KV type and build of llama.cpp.

        llama.cpp compares layers, types and row sizes, and nothing else: another model's state of the same shape
        would be taken. So the caller's key must cover what it depends on.

        Args:
            seq_id: the sequence.
            state: uint8, contiguous.
            n_positions: how many positions it holds.

        Raises:
            ContextFullError: it does not fit; nothing was changed.
            InferenceError: llama.cpp refuses it; the sequence is empty.
        """
        self.truncate(seq_id, 0)
        if n_positions > self.n_free:
            raise ContextFullError(
                f"{n_positions} more positions do not fit: {self.n_free} of {self.n_ctx} are free; use a larger --ctx"
            )
        binding.clear_log()
        read = self._lib.llama_state_seq_set_data(self.handle, _pointer(state, ctypes.c_uint8), len(state), seq_id)
        if read == len(state) and self._lib.llama_memory_seq_pos_max(self._memory, seq_id) == n_positions - 1:
            self._ledger.append(seq_id, n_positions)
            return
        self._lib.llama_memory_seq_rm(self._memory, seq_id, -1, -1)
        raise InferenceError(f"llama.cpp refuses a saved state: {binding.last_complaint() or 'no reason given'}")

    def _check_seq_ids(self, seq_ids: npt.NDArray[Any]) -> None:
        if not self.is_open:  # llama.cpp would follow a pointer to what is gone
            raise UsageError("this model was closed")
        if len(seq_ids) and not (seq_ids.min() >= 0 and seq_ids.max() < self.n_seq_max):
            raise UsageError(f"sequence id outside 0..{self.n_seq_max - 1}")

    def _decode(
        self,
        seq_ids: npt.NDArray[np.int32],
        outputs: npt.NDArray[Any],
        *,
        tokens: npt.NDArray[np.int32] | None = None,
        rows: npt.NDArray[np.float32] | None = None,
        fetch: bool = True,
    ) -> npt.NDArray[np.float32]:
        """Run all rows through the model, in batches of at most ``n_batch``, or leave everything as it was.

        Args:
            seq_ids: sequence of each row, int32 [n].
            outputs: indices of the rows whose logits are wanted, ascending.
            tokens: token ids, int32 [n], or
            rows: embeddings, float32 [n, n_embd].
            fetch: whether to copy the logits out.
        """
        self._check_seq_ids(seq_ids)
        if len(seq_ids) > self.n_free:
            raise ContextFullError(
                f"{len(seq_ids)} more positions do not fit: {self.n_free} of {self.n_ctx} are free; use a larger --ctx"
            )
        before = {int(s): self._ledger.n_positions(int(s)) for s in np.unique(seq_ids)}
        longest = max((n + int(np.count_nonzero(seq_ids == s)) for s, n in before.items()), default=0)
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
                self._decode_batch(
                    seq_ids[part],
                    wanted,
                    None if tokens is None else tokens[part],
                    None if rows is None else rows[part],
                )
                if fetch:
                    logits += [self.logits(int(i)) for i in wanted]
        except BaseException:
            for seq_id, n_positions in before.items():
                self._lib.llama_memory_seq_rm(self._memory, seq_id, n_positions, -1)
                self._ledger.truncate(seq_id, n_positions)
            raise
        return np.stack(logits) if logits else np.empty((0, self.model.n_vocab), np.float32)

    def _decode_batch(
        self,
        seq_ids: npt.NDArray[np.int32],
        wanted: npt.NDArray[Any],
        tokens: npt.NDArray[np.int32] | None,
        rows: npt.NDArray[np.float32] | None,
    ) -> None:
        """Run one llama_decode; every array lives in this frame until it is over."""
        n = len(seq_ids)
        positions = np.empty(n, np.int32)
        for seq_id in np.unique(seq_ids):
            mine = np.flatnonzero(seq_ids == seq_id)
            positions[mine] = self._ledger.n_positions(int(seq_id)) + np.arange(len(mine))
        flags = np.zeros(n, np.int8)
        flags[wanted if self._on_node is None else slice(None)] = 1
        ones = np.ones(n, np.int32)
        seq_ids = np.ascontiguousarray(seq_ids)
        addresses = seq_ids.ctypes.data + seq_ids.itemsize * np.arange(n, dtype=np.uintp)
        batch = self._lib.llama_batch(
            n_tokens=n,
            token=_pointer(tokens, ctypes.c_int32),
            embd=_pointer(rows, ctypes.c_float),
            pos=_pointer(positions, ctypes.c_int32),
            n_seq_id=_pointer(ones, ctypes.c_int32),
            seq_id=_pointer(addresses, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(flags, ctypes.c_int8),
        )
        binding.clear_log()
        with Interrupt(self.abort.set) as interrupt:
            code = self._lib.llama_decode(self.handle, batch)
            if interrupt.requested:
                self.abort.clear()
                raise KeyboardInterrupt
        if code == _ABORTED:
            raise Aborted
        if code != 0:
            reason = binding.last_complaint() or "no reason given"
            raise InferenceError(f"llama.cpp stopped with code {code}: {reason}")
        for seq_id in np.unique(seq_ids):
            self._ledger.append(int(seq_id), int(np.count_nonzero(seq_ids == seq_id)))

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """Return a copy of the logits of a row of the last batch, float32 [n_vocab]."""
        pointer = self._lib.llama_get_logits_ith(self.handle, row)
        if not pointer:
            raise InferenceError(f"llama.cpp has no logits for row {row}")
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab,)).copy()

    def close(self) -> None:
        """Free the cache. Closing twice does nothing."""
        handle, self.handle = self.handle, None
        if handle:
            self._lib.llama_free(handle)


def _pointer(array: npt.NDArray[Any] | None, ctype: Any) -> Any:
    """Return a C pointer into an array, or NULL; the array must stay alive while it is used."""
    return None if array is None else ctypes.cast(array.ctypes.data, ctypes.POINTER(ctype))
