"""The options that commands share, each defined once; knows the command line, not what the options do."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from aesedge.bundle.bundle import POCKET
from aesedge.config.options import Options
from aesedge.errors import UsageError


class Device(str, enum.Enum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    metal = "metal"


# Of the commands that make bundles.
BundleFolder = Annotated[
    Path | None, typer.Option("--out", help="The bundle's folder.", show_default="NAME among the installed bundles")
]
GgufTypes = Annotated[
    str,
    typer.Option("--gguf", help="Quantization types, with commas between. Loaded by default: q4_k_m, else the first."),
]
VisionPrecisions = Annotated[
    str,
    typer.Option(
        "--vision",
        help="Precisions of the vision graph: fp32, fp16, int8. Loaded by default: int8, else fp32.",
    ),
]
ProofPhotos = Annotated[
    list[Path] | None,
    typer.Option("--photo", help="Compare on this photo; may be given several times.", show_default="two samples"),
]
CalibrationPhotos = Annotated[
    list[Path] | None,
    typer.Option(
        "--calibrate",
        help="Photos, or a folder of them: quantize below q8_0 with an importance matrix measured on them.",
        show_default=False,
    ),
]
QualityPhotos = Annotated[
    list[str] | None,
    typer.Option(
        "--quality",
        help="A photo, or a folder of photos, several times: measure what fewer image tokens cost on them, and write "
        "it into the bundle. --image-tokens auto goes by that.",
        show_default=False,
    ),
]
AgainstPyTorch = Annotated[
    bool,
    typer.Option(
        "--parity/--no-parity", help="Compare with PyTorch, layer by layer where memory is short (minutes at 7B)."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")]

# Of the commands that ask.
AnswerSchema = Annotated[
    Path | None, typer.Option("--schema", help="Answers to --ask are JSON that fits the JSON schema in this file.")
]
AnswerGrammar = Annotated[
    Path | None, typer.Option("--grammar", help="Answers to --ask fit the grammar (GBNF) in this file.")
]

LOADING, WRITING, PRINTING = "Loading", "Writing", "Printing"


@dataclass(kw_only=True)
class Loading:
    """Which bundle is loaded, and how: each field of the options that has a help text is an option here."""

    bundle: Annotated[str, typer.Option(help="Name of an installed bundle, or a folder.", rich_help_panel=LOADING)] = (
        POCKET
    )
    options: Options = Options()


_TYPES: dict[str, Any] = {
    "str": str,
    "str | None": str | None,
    "int | None": int | None,
    "bool": bool,
    "Device": Device,
    "int | Literal['auto']": str,
    "int | Literal['auto'] | None": str | None,
}
"""How a field of the options is annotated, and as what Typer reads it."""
_CHOSEN = {field.metadata["name"] or field.name: field for field in dataclasses.fields(Options) if field.metadata}


def _chosen_parameters() -> Iterator[inspect.Parameter]:
    """Yield the options of the command line that the fields of the options stand for."""
    for name, chosen in _CHOSEN.items():
        kind, default = _TYPES[str(chosen.type)], chosen.default
        told = typer.Option(
            help=chosen.metadata["help"], show_default=chosen.metadata["default"] or True, rich_help_panel=LOADING
        )
        default = Device(default) if kind is Device else default
        annotation = Annotated[kind, told]  # type: ignore[valid-type]
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _options_of(values: dict[str, Any]) -> Options:
    """Take what the command line says about loading out of its values.

    Raises:
        UsageError: a value is out of its range.
    """
    found: dict[str, Any] = {}
    for name, chosen in _CHOSEN.items():
        value = values.pop(name)
        if "auto" in str(chosen.type) and value is not None:
            value = number_or_auto(value, f"--{name.replace('_', '-')}")
        found[chosen.name] = value.value if isinstance(value, Device) else value
    return Options(**found)


@dataclass(kw_only=True)
class WritingOptions:
    """How text is written."""

    max_tokens: Annotated[int, typer.Option(help="Length of a text at most.", rich_help_panel=WRITING)] = 512
    deadline: Annotated[
        str | None,
        typer.Option(
            help="When text must be over, counted from the photo, e.g. 8s: it ends at a sentence. Scores always come.",
            show_default="none",
            rich_help_panel=WRITING,
        ),
    ] = None
    temperature: Annotated[
        float, typer.Option(help="0 always writes the likeliest; more is more varied.", rich_help_panel=WRITING)
    ] = 0.0
    seed: Annotated[
        int | None,
        typer.Option(
            help="Same seed, same text; for temperatures above 0.", show_default="random", rich_help_panel=WRITING
        ),
    ] = None


@dataclass(kw_only=True)
class Printing:
    """What is printed where."""

    json: Annotated[
        bool, typer.Option("--json", help="One JSON object per photo and line.", rich_help_panel=PRINTING)
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.", rich_help_panel=PRINTING)] = (
        False
    )


def expand(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options: Typer sees their fields, the command gets them filled in."""
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(hints[name]):
            kind = hints[name]
            field_hints = get_type_hints(kind, include_extras=True)
            fields = [f for f in dataclasses.fields(kind) if f.type != "Options"]
            groups[name] = (kind, [f.name for f in fields])
            parameters += [
                inspect.Parameter(
                    f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=field_hints[f.name]
                )
                for f in fields
            ]
            parameters += _chosen_parameters() if kind is Loading else []
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    def command(**values: Any) -> None:
        filled = {name: kind(**{f: values.pop(f) for f in fields}) for name, (kind, fields) in groups.items()}
        for loading in filled.values():
            if isinstance(loading, Loading):
                loading.options = _options_of(values)
        function(**values, **filled)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def seconds(text: str | None, option: str = "--deadline") -> float | None:
    """Read the value of ``--deadline`` or another time: 8, 8s, 1.5min."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min)?", text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r} is no time; write seconds, e.g. 8s, or minutes, e.g. 1.5min")
    return float(match[1]) * (60 if match[2] == "min" else 1)


def number_or_auto(text: str, option: str) -> int | str:
    """Read the value of ``--gpu-layers`` or ``--image-tokens``."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is neither auto nor a number") from None
