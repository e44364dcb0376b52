"""Options shared by commands, each declared once."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from aesedge.bundle.bundle import POCKET
from aesedge.config.options import Options
from aesedge.errors import UsageError

LOADING, WRITING, PRINTING = "Loading", "Writing", "Printing"

BundleName = Annotated[str, typer.Argument(metavar="NAME", help="Name of an installed bundle, or its folder.")]

# Of the commands that make bundles.
BundleFolder = Annotated[
    Path | None, typer.Option("--out", help="The bundle's folder.", show_default="NAME among the installed bundles")
]
GgufTypes = Annotated[
    str, typer.Option("--gguf", help="Quantization types, comma-separated. The default type: q4_k_m, else the first.")
]
VisionPrecisions = Annotated[
    str,
    typer.Option(
        "--vision", help="Precisions of the vision graph, of fp32, fp16, int8. The default one: int8, else fp32."
    ),
]
VisionTower = Annotated[
    Path | None,
    typer.Option(help="Folder of the CLIP model, if the checkpoint does not contain it.", show_default=False),
]
SamplePhotos = Annotated[
    list[str] | None,
    typer.Option("--photo", help="Measure on this photo or folder; repeatable.", show_default="two sample photos"),
]
CalibrationPhotos = Annotated[
    list[str] | None,
    typer.Option(
        "--calibrate",
        help="Photo or folder, repeatable: quantize below q8_0 with an importance matrix measured on them.",
        show_default=False,
    ),
]
QualityPhotos = Annotated[
    list[str] | None,
    typer.Option(
        "--quality",
        help="Photo or folder, repeatable: measure what fewer image tokens cost on them, and write it into the bundle. "
        "--image-tokens auto uses it.",
        show_default=False,
    ),
]
CompareWithPyTorch = Annotated[
    bool,
    typer.Option(
        "--parity/--no-parity", help="Compare with PyTorch, layer by layer if memory is short (minutes at 7B)."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")]

# Of the commands that ask.
AnswerSchema = Annotated[
    Path | None, typer.Option("--schema", help="Answers to --ask are JSON that fits the JSON schema in this file.")
]
AnswerGrammar = Annotated[
    Path | None, typer.Option("--grammar", help="Answers to --ask fit the grammar (GBNF) in this file.")
]


@dataclass(kw_only=True)
class Loading:
    """Which bundle is loaded, and how: each field of Options that has a help text is an option here."""

    bundle: Annotated[
        str, typer.Option("--bundle", "-b", help="Name of an installed bundle, or a folder.", rich_help_panel=LOADING)
    ] = POCKET
    options: Options = Options()


_TYPES: dict[str, Any] = {
    "str": str,
    "str | None": str | None,
    "int | None": int | None,
    "bool": bool,
    "Device": Literal["auto", "cpu", "cuda", "metal"],
    "int | Literal['auto']": str,
    "int | Literal['auto'] | None": str | None,
}
"""Annotation of a field of Options to the type that Typer parses."""
_FIELDS = {field.metadata["name"] or field.name: field for field in dataclasses.fields(Options) if field.metadata}
"""Name of each option of the command line to the field of Options behind it."""


@dataclass(kw_only=True)
class WritingOptions:
    """How text is generated."""

    max_tokens: Annotated[int, typer.Option(help="Maximum length of a text.", rich_help_panel=WRITING)] = 512
    deadline: Annotated[
        str | None,
        typer.Option(
            help="Time limit for text, counted from the photo, e.g. 8s: it ends at a sentence. Scores always come.",
            show_default="none",
            rich_help_panel=WRITING,
        ),
    ] = None
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; higher is more varied.", rich_help_panel=WRITING)
    ] = 0.0
    seed: Annotated[
        int | None,
        typer.Option(
            help="Same seed, same text; for temperatures above 0.", show_default="random", rich_help_panel=WRITING
        ),
    ] = None


@dataclass(kw_only=True)
class Printing:
    """What is printed where; each command says what its JSON is."""

    json: Annotated[bool, typer.Option("--json", rich_help_panel=PRINTING)] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.", rich_help_panel=PRINTING)] = (
        False
    )


def with_options(
    *, json: str = "", loading: Collection[str] = tuple(_FIELDS)
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take dataclasses of options: Typer sees their fields, the command gets them filled in.

    Args:
        json: help of ``--json``: what the command prints; for commands that take :class:`Printing`.
        loading: names of the options that the command takes of :class:`Loading`, besides ``--bundle``.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        parameters: list[inspect.Parameter] = []
        groups: dict[str, tuple[type, list[str]]] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            kind = hints[name]
            if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
                parameters.append(_keyword(name, parameter.default, kind))
                continue
            field_hints = get_type_hints(kind, include_extras=True)
            fields = [f for f in dataclasses.fields(kind) if f.type != "Options"]
            groups[name] = (kind, [f.name for f in fields])
            parameters += [_keyword(f.name, f.default, field_hints[f.name]) for f in fields]
            parameters += _loading_parameters(loading) if kind is Loading else []
        for i, parameter in enumerate(parameters):
            if parameter.name == "json":
                told = typer.Option("--json", help=json, rich_help_panel=PRINTING)
                parameters[i] = parameter.replace(annotation=Annotated[bool, told])

        def command(**values: Any) -> None:
            filled = {name: kind(**{f: values.pop(f) for f in fields}) for name, (kind, fields) in groups.items()}
            for group in filled.values():
                if isinstance(group, Loading):
                    group.options = _options_of(values, loading)
            function(**values, **filled)

        command.__name__ = function.__name__
        # One line for each paragraph: Typer keeps the line breaks of the source.
        command.__doc__ = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(function.__doc__ or ""))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _loading_parameters(names: Collection[str]) -> Iterator[inspect.Parameter]:
    """Yield the options behind which there is a field of Options."""
    for name in names:
        field = _FIELDS[name]
        flags, default = field.metadata["flags"], field.metadata["default"] or not field.metadata["flags"]
        told = typer.Option(
            *filter(None, [flags]), help=field.metadata["help"], show_default=default, rich_help_panel=LOADING
        )
        yield _keyword(name, field.default, Annotated[_TYPES[str(field.type)], told])


def _options_of(values: dict[str, Any], names: Collection[str]) -> Options:
    """Take the values of the options behind which there is a field of Options.

    Raises:
        UsageError: a value is out of its range.
    """
    found: dict[str, Any] = {}
    for name in names:
        field, value = _FIELDS[name], values.pop(name)
        if "auto" in str(field.type) and value is not None:
            value = number_or_auto(value, f"--{name.replace('_', '-')}")
        found[field.name] = value
    return Options(**found)


def seconds(text: str | None, option: str = "--deadline") -> float | None:
    """Parse the value of ``--deadline`` or another time: 8, 8s, 1.5min."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min)?", text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r} is no time; write seconds, e.g. 8s, or minutes, e.g. 1.5min")
    return float(match[1]) * (60 if match[2] == "min" else 1)


def number_or_auto(text: str, option: str) -> int | str:
    """Parse the value of ``--gpu-layers`` or ``--image-tokens``."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is neither auto nor a number") from None
