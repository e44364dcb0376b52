"""Keep KV states on disk: the text before every image, and pinned images.

A state takes 0.5 MiB a token at 7B: embeddings are kept of every photo, KV states only where the user asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.cache import kv_key
from aesedge.errors import ContextFullError, InferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from aesedge.cache import DiskStore
    from aesedge.llm import Context


class KVStateStore:
    """The KV states of one context on disk.

    Args:
        store: the folder; None keeps nothing.
        context: the KV cache.
        gguf_sha256: the language model file's SHA-256.
        prefix: the tokens before every image.
        template: the prompt template's name.
        settings: everything else that changes what is computed.
    """

    def __init__(
        self,
        store: DiskStore | None,
        context: Context,
        *,
        gguf_sha256: str,
        prefix: Sequence[int],
        template: str,
        settings: Mapping[str, str | int | float | bool | None],
    ) -> None:
        self._store = store
        self._context = context
        self._gguf_sha256 = gguf_sha256
        self._prefix = prefix
        self._template = template
        self._settings = settings
        self._build = context.build

    def key(self, embeddings: str | None) -> str:
        """Return the key of an image's state from that of its embeddings; None stands for the text before it alone."""
        return kv_key(
            embeddings=embeddings,
            gguf_sha256=self._gguf_sha256,
            prefix=self._prefix,
            template=self._template,
            kv_type=self._context.kv_type,
            settings=self._settings,
            llama_cpp=self._build,
        )

    def has(self, key: str) -> bool:
        """Return whether there is a state under this key; only its header is read."""
        return self._store is not None and self._store.peek(key) is not None

    def restore(self, key: str, seq_id: int, n_positions: int) -> bool:
        """Load a state into an empty sequence; return False, and leave it empty, if there is none or it is damaged."""
        entry = self._store.get(key) if self._store is not None else None
        if self._store is None or entry is None:
            return False
        try:
            self._context.restore(seq_id, entry.payload, n_positions)
        except InferenceError:
            self._store.remove(key)
            return False
        except ContextFullError:
            return False
        return True

    def put(self, key: str, state: npt.NDArray[np.uint8], n_positions: int, *, pinned: bool) -> bool:
        """Write what :meth:`Context.save` returned; return whether it was kept."""
        return self._store is not None and self._store.put(key, state, {"n_tokens": n_positions}, pinned=pinned)

    def delete(self, key: str) -> bool:
        """Remove a state; return whether there was one."""
        return self._store is not None and self._store.remove(key)
