"""What the operator of a kiosk chooses, in one TOML file that is checked strictly."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from aesedge.errors import UsageError
from aesedge.system.error_text import error_text

if TYPE_CHECKING:
    from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST_BYTES = 1 << 16
PAGE = files("aesedge.kiosk").joinpath("page")
"""The files of the page."""
LANGUAGES: tuple[str, ...] = tuple(json.loads(PAGE.joinpath("words.json").read_text(encoding="utf-8")))
"""Those that the page speaks."""


class KioskConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Choices for one kiosk."""

    language: str = "en"
    """Of the first screen, and of each new guest."""
    languages: tuple[str, ...] = LANGUAGES
    """Those that guests may choose from."""
    idle_s: Annotated[float, msgspec.Meta(ge=20, le=3600)] = 60.0
    """Seconds without a touch or a key after which it asks whether anybody is there; 20 more, and it starts over."""
    camera: str = ""
    """A part of the camera's name; empty takes the first one."""
    mirror: bool = True
    """Whether guests see themselves as in a mirror. What is judged is never mirrored."""
    on_result: tuple[str, ...] = ()
    """Program and arguments to run with each result as JSON on its standard input."""
    on_result_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    """Seconds after which it is ended."""
    browser: str = ""
    """Chromium's program; empty looks for it."""
    browser_flags: tuple[str, ...] = ()
    """More flags for it."""


def read_config(path: Path | None) -> KioskConfig:
    """Read a configuration; without a path, return the defaults.

    Raises:
        UsageError: the file cannot be read, is no TOML, or says something that is unknown or out of its range.
    """
    if path is None:
        return KioskConfig()
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"{path}: is longer than {_MOST_BYTES} bytes, which no configuration of a kiosk is")
        told = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error_text(error)}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is no text in UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is no TOML: {error}") from None
    try:
        return check(_converted(told))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _converted(told: dict[str, Any]) -> KioskConfig:
    names = KioskConfig.__struct_fields__
    unknown = next((name for name in told if name not in names), None)
    if unknown is not None:
        raise UsageError(f"there is no setting {unknown!r}; the settings are {', '.join(names)}")
    try:
        return msgspec.convert(told, KioskConfig)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        name = where.strip("`").removeprefix("$.")
        raise UsageError(f"{name}: {what[0].lower()}{what[1:]}; see docs/kiosk.md") from None


def check(config: KioskConfig) -> KioskConfig:
    """Return a configuration whose languages and programs exist.

    Raises:
        UsageError: one does not.
    """
    for name in (config.language, *config.languages):
        if name not in LANGUAGES:
            raise UsageError(f"there is no language {name!r}; the page speaks {', '.join(LANGUAGES)}")
    if config.language not in config.languages:
        raise UsageError(f"language {config.language!r} is not among languages; add it there")
    if len(set(config.languages)) != len(config.languages):
        raise UsageError("languages: one is named twice")
    texts = [config.camera, config.browser, *config.on_result, *config.browser_flags]
    if any("\0" in text for text in texts):
        raise UsageError("a text holds a NUL character, which no program can be given")
    if config.on_result and shutil.which(config.on_result[0]) is None:
        raise UsageError(
            f"on_result: there is no program {config.on_result[0]!r}; write its path, and each argument as a text of "
            "its own: no shell reads it"
        )
    wrong = next((flag for flag in config.browser_flags if not flag.startswith("--")), None)
    if wrong is not None:
        raise UsageError(f"browser_flags: {wrong!r} is no flag; flags begin with --")
    return config
