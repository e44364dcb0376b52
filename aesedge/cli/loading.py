"""From options to a loaded model and to generation options."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.cli.options import Loading, WritingOptions, seconds
from aesedge.cli.terminal import status
from aesedge.errors import UsageError
from aesedge.system.error_text import error_text
from aesedge.system.git_lfs import refuse_git_lfs_pointer

if TYPE_CHECKING:
    from aesedge.config.profile import Purpose
    from aesedge.engine.generation_options import GenerationOptions
    from aesedge.engine.model import Model

_MOST_BYTES = 1 << 24  # of a schema or a grammar


def load_model(loading: Loading, *, quiet: bool, photos: int = 1, purpose: Purpose = "critique") -> Model:
    """Load what the options ask for, with a progress bar.

    Args:
        loading: the options.
        quiet: no bar.
        photos: how many photos would be worked on at once, if there were room for them.
        purpose: what for.

    Raises:
        AesedgeError: see :class:`aesedge.engine.model.Model`.
    """
    from aesedge.bundle.bundle import open_bundle
    from aesedge.engine.model import Model

    options = dataclasses.replace(loading.options, photos=photos, purpose=purpose)
    with status(f"loading {loading.bundle}", quiet=quiet) as show:
        return Model(open_bundle(loading.bundle), options, show)


def writing(options: WritingOptions) -> GenerationOptions:
    """Return how text is to be written.

    Raises:
        UsageError: a value is out of its range.
    """
    from aesedge.engine.generation_options import GenerationOptions

    return GenerationOptions(
        temperature=options.temperature,
        seed=options.seed,
        max_tokens=options.max_tokens,
        deadline=seconds(options.deadline),
    )


def constrained(chosen: GenerationOptions, *, schema: Path | None, grammar: Path | None) -> GenerationOptions:
    """Return a way of writing whose answers fit the JSON schema, or the GBNF grammar, in a file.

    Raises:
        UsageError: the file cannot be read, or what is in it cannot be kept to; the message names the file.
    """
    from aesedge.llm import Grammar

    path = schema or grammar
    if path is None:
        return chosen
    if schema is not None and grammar is not None:
        raise UsageError("--schema and --grammar say both what an answer may look like; give one of them")
    text = _text_in(path)
    try:
        made = Grammar.from_gbnf(text) if schema is None else Grammar.from_json_schema(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return dataclasses.replace(chosen, grammar=made)


def _text_in(path: Path) -> str:
    """Return what a file says; it may be a pipe, as a shell makes of ``<(command)``."""
    refuse_git_lfs_pointer(path, UsageError)
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error_text(error)}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no text in UTF-8 (byte {error.start})") from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path}: is longer than {_MOST_BYTES} bytes, which no schema or grammar is")
    return text
