"""Run the operator's command with a result on its standard input: a printer, a lamp. No shell reads it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from aesedge.serve.sd_notify import without_systemd

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)
_MOST_WAITING = 4


class ResultCommand:
    """Runs a command for each result, one at a time. Lives on the event loop's thread.

    Args:
        command: program and arguments; empty runs nothing.
        limit_s: seconds after which it is ended, with whatever it started.
    """

    def __init__(self, command: Sequence[str], limit_s: float) -> None:
        self._command = list(command)
        self._limit_s = limit_s
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, result: dict[str, Any]) -> None:
        """Run it later, without making anybody wait; results are left out where too many wait."""
        if not self._command:
            return
        if len(self._tasks) >= _MOST_WAITING:
            _log.warning("on_result: %d results wait for the command; one was left out", len(self._tasks))
            return
        task = asyncio.get_running_loop().create_task(self._run(msgspec.json.encode(result) + b"\n"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, line: bytes) -> None:
        async with self._lock:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                    env=without_systemd(),
                )
            except OSError as error:
                _log.warning("on_result: the command cannot be run: %s", error.strerror)
                return
            try:
                await asyncio.wait_for(process.communicate(line), self._limit_s)
                if process.returncode:
                    _log.warning("on_result: the command ended with %d", process.returncode)
            except asyncio.TimeoutError:
                _log.warning("on_result: the command took longer than %g s and was ended", self._limit_s)
            finally:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it left running too
                await process.wait()
