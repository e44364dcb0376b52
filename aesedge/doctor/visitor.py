"""One of two processes that use a cache folder at once: reads photos and tells what it read, line by line, as JSON.

Started by :mod:`aesedge.doctor.visitors`; it waits for a line on stdin before it begins, so that both begin together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aesedge.bundle import open_bundle
from aesedge.doctor import probe
from aesedge.engine import Model
from aesedge.errors import AesedgeError, MemoryFitError
from aesedge.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

N_ROUNDS = 2
"""How often each photo is looked at: once it may be new, then it is known."""


def main() -> int:
    """Do what the first line of stdin says.

    Returns:
        0, or 1 after a line that says what went wrong.
    """
    order = json.loads(sys.stdin.readline())
    options = Options(**{**order["options"], "cache_folder": Path(order["options"]["cache_folder"])})
    try:
        with Model(open_bundle(order["bundle"]), options) as model:
            _say(ready=True)
            sys.stdin.readline()
            for _ in range(N_ROUNDS):
                for path in order["photos"]:
                    _visit(model, path)
            while order["for_ever"]:
                _write(model, order["photos"])
    except AesedgeError as error:
        _say(error=str(error), unfit=isinstance(error, MemoryFitError))
        return 1
    return 0


def _visit(model: Model, path: str) -> None:
    with model.look(path) as photo:
        seen = probe.see(model, photo)
        photo.pin()
        state = photo.cache_state
    _say(
        photo=path,
        nll=seen.text.nll,
        digest=seen.text.digest,
        rating=vars(seen.rating),
        state=state,
    )


def _write(model: Model, paths: Sequence[str]) -> None:
    """Write the same files anew, so that whoever ends this process ends it while it writes."""
    for path in paths:
        with model.look(path) as photo:
            photo.unpin()
            photo.pin()


def _say(**what: Any) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()
