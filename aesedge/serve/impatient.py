"""uvicorn's HTTP/1.1 with a limit on how long a request's head may take, which it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from aesedge.serve.settings import HEAD_S

if TYPE_CHECKING:
    import asyncio


class ImpatientProtocol(H11Protocol):
    """Closes a connection whose next request line and headers are not here in time.

    A silent connection, half a head, a head that drips, and half a head after a good request stay open in uvicorn;
    its ``timeout_keep_alive`` counts only while nothing at all has come.
    """

    head_s = HEAD_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting until a whole head is here."""
        super().data_received(data)
        if self._between():
            self._wait()
        else:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next head, if a part of it is here."""
        super().on_response_complete()
        if self._between() and self.conn.trailing_data[0]:
            self._wait()

    def _between(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, which uvicorn's type does not say
        return cycle is None or cycle.response_complete

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._between() and not self.transport.is_closing():
            self.transport.close()
