"""The model of a server: loads it, counts who uses it, unloads it when nobody does for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from aesedge.errors import AesedgeError
from aesedge.serve.api_error import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_log = logging.getLogger(__name__)
_RETRY_WHILE_LOADING_S = 2


class Closable(Protocol):
    """What a host keeps."""

    def close(self) -> None:
        """Free it."""


M = TypeVar("M", bound=Closable)


class ModelHost(Generic[M]):
    """Keeps a model loaded while it is used. Everything but loading and closing happens on the event loop's thread.

    Args:
        load: opens the model.
        idle_s: seconds without users after which it is closed; None keeps it.
    """

    def __init__(self, load: Callable[[], M], idle_s: float | None = None) -> None:
        self._load = load
        self._idle_s = idle_s
        self._lock = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="aesedge-load")
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self.model: M | None = None
        self.n_users = 0
        self.unused = asyncio.Event()
        """Set while there are no users."""
        self.unused.set()
        self.was_loaded = False
        """Whether it was ready once: from then on requests wait for it instead of being refused."""
        self.failed = False

    async def load(self) -> None:
        """Load the model, if it is not.

        Raises:
            AesedgeError: it cannot be.
        """
        async with self._lock:
            if self.model is None:
                try:
                    self.model = await asyncio.get_running_loop().run_in_executor(self._pool, self._load)
                except AesedgeError:
                    self.failed = True
                    raise
                self.was_loaded = True
                self.failed = False

    def check_ready(self) -> None:
        """Refuse requests while the model is loaded for the first time.

        Raises:
            ApiError: 503.
        """
        if not self.was_loaded:
            raise ApiError(
                503, "the model is being loaded; try again", code="loading", retry_after_s=_RETRY_WHILE_LOADING_S
            )

    @asynccontextmanager
    async def use(self) -> AsyncIterator[tuple[M, float]]:
        """Give the model for the block, loaded anew where it was unloaded, and the seconds that took."""
        self.n_users += 1
        self.unused.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        began = time.perf_counter()
        try:
            is_new = self.model is None
            await self.load()
            assert self.model is not None  # noqa: S101 (for mypy: only _unload clears it, and not while there are users)
            yield self.model, time.perf_counter() - began if is_new else 0.0
        finally:
            self.n_users -= 1
            if not self.n_users:
                self._without_users()

    def _without_users(self) -> None:
        self.unused.set()
        if self._idle_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._start_unloading)

    def _start_unloading(self) -> None:
        self._timer = None
        self._closing = asyncio.ensure_future(self._unload())

    async def _unload(self) -> None:
        async with self._lock:
            if self.n_users or self.model is None:  # somebody came meanwhile
                return
            model, self.model = self.model, None
            await asyncio.get_running_loop().run_in_executor(self._pool, model.close)
            _log.info("the model was unloaded after %g s without requests", self._idle_s)

    async def close(self) -> None:
        """Free the model, whoever uses it."""
        async with self._lock:
            model, self.model = self.model, None
            if model is not None:
                await asyncio.get_running_loop().run_in_executor(self._pool, model.close)
        self._pool.shutdown(wait=False)
