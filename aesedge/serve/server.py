"""Run a server: listen, load the model, answer until a signal, let running answers end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from aesedge import __version__
from aesedge.bundle.manifest import MANIFEST_NAME
from aesedge.errors import AesedgeError
from aesedge.serve.admission import Admission
from aesedge.serve.answering import Service
from aesedge.serve.app import make_app
from aesedge.serve.impatient import ImpatientProtocol
from aesedge.serve.metrics import Metrics
from aesedge.serve.model_host import ModelHost
from aesedge.serve.sd_notify import notify, watchdog_s
from aesedge.serve.session import Session
from aesedge.serve.settings import CONNECTIONS

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from starlette.routing import Route

    from aesedge.bundle.bundle import Bundle
    from aesedge.engine.model import Model
    from aesedge.serve.settings import ServeSettings

_log = logging.getLogger(__name__)
_KEEP_ALIVE_S = 75
_LAST_SENTENCE_S = 2.0
_HANG_UP_S = 2
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def serve(
    settings: ServeSettings,
    line: socket.socket,
    bundle: Bundle,
    load: Callable[[], Model],
    ready: Callable[[str], None] = lambda _url: None,
    more: Callable[[Service], Sequence[Route]] = lambda _service: (),
) -> None:
    """Answer requests until a signal comes.

    Args:
        settings: how.
        line: where it listens, see :func:`aesedge.serve.listening.listening`.
        bundle: what is loaded.
        load: opens the model; called on a thread.
        ready: called with the address once requests are answered.
        more: returns addresses beside those of every server.

    Raises:
        AesedgeError: the model cannot be loaded.
    """
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # what goes wrong in a request is logged by the guard
    asyncio.run(_Running(settings, bundle, load, ready, more).run(line))


class _Uvicorn(uvicorn.Server):
    """uvicorn without its way with signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class _Running:
    """One server while it runs."""

    def __init__(
        self,
        settings: ServeSettings,
        bundle: Bundle,
        load: Callable[[], Model],
        ready: Callable[[str], None],
        more: Callable[[Service], Sequence[Route]] = lambda _service: (),
    ) -> None:
        self._settings, self._load, self._ready = settings, load, ready
        digest = hashlib.sha256((bundle.folder / MANIFEST_NAME).read_bytes()).hexdigest()
        manifest = bundle.manifest
        self._details: dict[str, Any] = {
            "gguf": "",
            "n_ctx": 0,
            "size": sum(file.n_bytes for file in manifest.files),
            "digest": digest,
            "licence": manifest.license,
        }
        self._host: ModelHost[Session] = ModelHost(self._open, settings.idle_s)
        self._admission = Admission(1, settings.queue)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="aesedge-body")
        fingerprint = f"fp_{hashlib.sha256(f'{digest} {__version__}'.encode()).hexdigest()[:12]}"
        service = Service(bundle.name, fingerprint, self._host, self._admission, Metrics(), self._pool)
        self._service = service
        self._server = _Uvicorn(
            uvicorn.Config(
                make_app(service, settings, self._details, more(service)),
                http=ImpatientProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_HANG_UP_S,
            )
        )
        self._stopping: asyncio.Task[None] | None = None

    def _open(self) -> Session:
        session = Session(self._load(), private=self._settings.private, deadline_s=self._settings.deadline_s)
        self._admission.places = session.places
        self._details.update(gguf=session.model.gguf, n_ctx=session.n_ctx)
        return session

    async def run(self, line: socket.socket) -> None:
        loop = self._loop = asyncio.get_running_loop()
        for signum in _SIGNALS:
            try:
                loop.add_signal_handler(signum, self._stop)
            except NotImplementedError:  # Windows
                signal.signal(signum, lambda *_: loop.call_soon_threadsafe(self._stop))
            except (ValueError, RuntimeError):  # not in the main thread, which alone gets signals
                break
        starting = asyncio.ensure_future(self._start(line))
        beating = asyncio.ensure_future(self._beat())
        try:
            await self._server.serve(sockets=[line])
            if starting.done():
                starting.result()
        finally:
            mine = [task for task in (starting, beating, self._stopping) if task is not None]
            left = [*mine, *self._server.server_state.tasks]  # requests must be over before the model is closed
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await self._host.close()
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _start(self, line: socket.socket) -> None:
        """Load the model; without it the server ends."""
        try:
            await self._host.load()
        except BaseException:
            self._server.should_exit = True
            raise
        host, port = line.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (what one can open here)
        shown = f"[{host}]" if ":" in host else host
        self._ready(f"http://{shown}:{port}")
        notify("READY=1")

    def stop(self) -> None:
        """Begin to end, from another thread."""
        self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        """Begin to end; a second signal does not wait for anybody."""
        if self._stopping is not None:
            self._server.should_exit = self._server.force_exit = True
        else:
            self._stopping = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        notify("STOPPING=1")
        self._admission.close()
        session = self._host.model
        if session is not None:
            session.drain(self._settings.drain_s)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._host.unused.wait(), self._settings.drain_s + _LAST_SENTENCE_S)
        self._server.should_exit = True

    async def _beat(self) -> None:
        """Tell systemd that the process works, as long as the engine's own thread answers."""
        every_s = watchdog_s()
        while every_s is not None:
            await asyncio.sleep(every_s / 2)
            session = self._host.model
            if session is not None:
                with suppress(AesedgeError):
                    await session.answers()
            if self._host.was_loaded:
                notify("WATCHDOG=1")
