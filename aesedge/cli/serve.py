"""The command ``serve``: the engine over HTTP."""

from __future__ import annotations

import dataclasses
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from aesedge.bundle.bundle import open_bundle
from aesedge.cli.loading import load_model
from aesedge.cli.options import Loading, seconds, with_options
from aesedge.errors import MissingExtraError, UsageError
from aesedge.system.error_text import error_text

if TYPE_CHECKING:
    from aesedge.engine.model import Model

PANEL = "Serving"
_MOST_KEY_FILE = 1 << 16
_LEAST_KEY = 8
_MOST_PLACES, _MOST_QUEUE = 4, 10_000
_PLACES_OF_SMALL = 2
"""With a small model, which computes on one thread: the next photo is decoded and encoded while the language model
writes about this one. More photos lengthen the attention of each other, and gain nothing from shared weights."""


@with_options()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    key_file: Annotated[
        Path | None, typer.Option(help="Keys, one in a line: only who sends one is answered.", show_default=False)
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="A site whose pages may ask, e.g. https://photos.example; repeatable.")
    ] = None,
    queue: Annotated[int, typer.Option(min=0, max=_MOST_QUEUE, help="Requests that may wait.")] = 16,
    photos: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=_MOST_PLACES,
            help="Photos to work on side by side, if memory allows.",
            show_default=f"{_MOST_PLACES}, or {_PLACES_OF_SMALL} with a model as small as pocket",
        ),
    ] = None,
    idle: Annotated[
        str | None,
        typer.Option(help="Unload the model after this long without requests, e.g. 10min.", show_default="never"),
    ] = None,
    drain: Annotated[str, typer.Option(help="How long answers may go on after a request to stop.")] = "30s",
    deadline: Annotated[
        str | None, typer.Option(help="When an answer ends, at a sentence, e.g. 50s.", show_default="none")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Reuse nothing between keys, keep nothing on disk.")
    ] = False,
    unit: Annotated[bool, typer.Option("--unit", help="Print a unit file for systemd and end.")] = False,
    loading: Loading = Loading(),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for each request.")] = False,
) -> None:
    """Answer over HTTP: OpenAI's and Ollama's formats, POST /v1/photo, and a page for browsers.

    It listens, and opens no connection itself. Without --host only this machine can ask.
    """
    from aesedge.serve.listening import check_address, listening
    from aesedge.serve.sd_notify import unit_file
    from aesedge.serve.settings import ServeSettings

    if None in map(find_spec, ("starlette", "uvicorn")):
        raise MissingExtraError("aesedge serve", "serve")
    settings = ServeSettings(
        host=host,
        port=port,
        keys=keys_in(key_file),
        origins=tuple(map(checked_origin, origin or ())),
        queue=queue,
        idle_s=seconds(idle, "--idle"),
        drain_s=seconds(drain, "--drain") or 0.0,
        deadline_s=seconds(deadline),
        private=private,
    )
    is_local = check_address(settings)
    if unit:
        words = [word for word in sys.argv[1:] if word != "--unit"]
        if key_file is not None:  # systemd starts elsewhere
            given, there = str(key_file), str(key_file.resolve())
            absolute = {given: there, f"--key-file={given}": f"--key-file={there}"}
            words = [absolute.get(word, word) for word in words]
        print(unit_file([str(Path(sys.argv[0]).resolve()), *words], stop_s=settings.drain_s, is_local=is_local), end="")
        return
    if private:
        loading.options = dataclasses.replace(loading.options, cache="0")
    if not quiet:
        logging.getLogger("aesedge.serve").setLevel(logging.INFO)

    bundle = open_bundle(loading.bundle)
    places = photos or (_PLACES_OF_SMALL if bundle.manifest.has_small_llm(loading.options.gguf) else _MOST_PLACES)
    with listening(settings) as line, ThreadPoolExecutor(1) as pool:
        first = [pool.submit(load_model, loading, photos=places, quiet=True)]
        from aesedge.serve import server  # while the model is loaded: a fifth of the start

        def load() -> Model:
            return first.pop().result() if first else load_model(loading, photos=places, quiet=True)

        server.serve(settings, line, bundle, load, lambda url: print(f"Open {url} in a browser.", flush=True))


def keys_in(path: Path | None) -> tuple[bytes, ...]:
    """Return the keys in a file: its lines that are neither empty nor comments.

    Raises:
        UsageError: it cannot be read, or holds no key, or one that is too short.
    """
    if path is None:
        return ()
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_KEY_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error_text(error)}") from None
    if len(text) > _MOST_KEY_FILE:
        raise UsageError(f"{path}: is too large for a file of keys, one in a line")
    keys = tuple(key for line in text.splitlines() if (key := line.strip()) and not key.startswith(b"#"))
    if not keys or min(map(len, keys)) < _LEAST_KEY or not all(key.isascii() for key in keys):
        raise UsageError(
            f"{path}: write keys of {_LEAST_KEY} letters, digits or signs and more into it, one in a line "
            "(openssl rand -hex 24 makes one)"
        )
    return keys


def checked_origin(origin: str) -> str:
    """Return the address of a site.

    Raises:
        UsageError: it is none; ``*`` neither.
    """
    parts = urlsplit(origin)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.path.strip("/")
        or parts.query
        or "*" in origin
    ):
        raise UsageError(f"--origin {origin!r} is no address of a site; write https://NAME, without a path")
    return origin.rstrip("/")
