"""The command ``kiosk``: a full-screen page with a camera."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aesedge.bundle.bundle import open_bundle
from aesedge.cli.extras import imports_of_extra
from aesedge.cli.loading import load_model
from aesedge.cli.options import Loading, seconds, with_options
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from aesedge.engine.model import Model

_LEAST_DEADLINE_S = 1.0


_LOADING = ("gguf", "vision", "image_tokens", "device", "gpu_layers", "threads", "ctx", "kv_type", "memory", "tuned")
"""Not the size of the cache: nothing is kept."""


@with_options(loading=_LOADING)
def kiosk(
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the operator's choices.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Show what a tethered camera writes into this folder, in place of a camera of the browser."),
    ] = None,
    deadline: Annotated[
        str, typer.Option(help="When a text ends, at a sentence, counted from the shutter. Scores always come.")
    ] = "30s",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Serve the page alone, at /kiosk, for a browser that you start.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8181,
    install: Annotated[
        bool,
        typer.Option("--install", help="Print what makes a machine a kiosk: files for systemd and Chromium, steps."),
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="With --install: write the files below this folder, / for this machine.", show_default=False),
    ] = None,
    loading: Loading = Loading(),
) -> None:
    """Show a full-screen page: stand in front of the camera, press, and read what the model sees in the photo.

    It listens on this machine alone, starts Chromium, and starts again whatever ends. Nothing about a guest is stored.
    """
    with imports_of_extra("kiosk", "serve"):
        from aesedge.kiosk import install as installing
        from aesedge.kiosk.config import read_config
    chosen = read_config(config)
    if write is not None and not install:
        raise UsageError("--write says where --install writes its files; add --install")
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--folder {folder}: there is no such folder; make it, or let the camera's program make it")
    deadline_s = seconds(deadline)
    if deadline_s is None or deadline_s < _LEAST_DEADLINE_S:
        raise UsageError(f"--deadline {deadline!r} leaves no time for a text; write 1s or more")
    if install:
        command = installing.command_of(sys.argv, config=config, folder=folder)
        made = installing.files(command, port=port or 8181, folder=folder)
        if write is None:
            print(installing.shown(made), end="")
        else:
            for path in installing.write(made, write):
                print(f"wrote {path}")
        print(installing.STEPS, end="")
        return
    logging.basicConfig(format="aesedge: %(message)s", level=logging.WARNING)
    loading.options = dataclasses.replace(loading.options, cache="0")
    bundle = open_bundle(loading.bundle)
    if no_browser:
        from aesedge.kiosk.routes import KioskRoutes
        from aesedge.serve import server
        from aesedge.serve.listening import listening
        from aesedge.serve.settings import ServeSettings

        def load() -> Model:
            return load_model(loading, photos=1, quiet=True)

        settings = ServeSettings(port=port, private=True, deadline_s=deadline_s, drain_s=2.0, queue=2)
        with listening(settings) as line:
            server.serve(
                settings,
                line,
                bundle,
                load,
                lambda url: print(f"Open {url}/kiosk in a browser.", flush=True),
                lambda service: KioskRoutes(service, chosen, folder).routes(),
            )
        return
    from aesedge.kiosk.chromium import Chromium, find_chromium, memory_folder, refuse_root
    from aesedge.kiosk.supervisor import Supervisor, free_port

    program = find_chromium(chosen.browser)
    refuse_root(chosen.browser_flags)
    memory_folder()
    port = port or free_port()
    # The last --port counts.
    command = [sys.executable, "-m", "aesedge", *sys.argv[1:], "--no-browser", f"--port={port}"]
    address = f"http://127.0.0.1:{port}"
    Supervisor(command, port, lambda: Chromium(program, address, chosen.browser_flags)).run()
