"""The commands ``bundles``, ``info`` and ``verify``: what is installed and whether it is intact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aesedge.bundle.bundle import POCKET, Bundle, both_names, installed, open_bundle, read_unchecked
from aesedge.bundle.manifest import Manifest
from aesedge.cli.comparison_text import comparison_text
from aesedge.cli.exit_codes import FAILED, USAGE
from aesedge.cli.fidelity import fidelity_text
from aesedge.cli.options import BundleName, Printing, with_options
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, print_error, shown, status, table
from aesedge.errors import AesedgeError
from aesedge.system.byte_sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Collection


@with_options(json="Print one JSON object per bundle and line; a broken one has the problem in its line.")
def bundles(printing: Printing = Printing()) -> None:
    """List the installed bundles."""
    rows: list[list[str]] = []
    broken = []
    for name, folder in installed():
        try:
            bundle = open_bundle(folder)
        except AesedgeError as error:
            broken.append(error)
            if printing.json:
                print_json({"name": name, "folder": str(folder), "ok": False, "problem": str(error)})
            continue
        types = [[t.lower() for t in bundle.manifest.types(role)] for role in ("llm", "vision")]
        if printing.json:
            print_json({
                "name": name, "name_in_manifest": bundle.name, "folder": str(folder), "ok": True, "problem": None,
                "bytes": _n_bytes(bundle), "gguf": types[0], "vision": types[1],
                "checkpoint": bundle.manifest.source.checkpoint,
            })  # fmt: skip
        rows.append([
            both_names(name, bundle.name), size_text(_n_bytes(bundle)), *map(" ".join, types),
            bundle.manifest.source.checkpoint,
        ])  # fmt: skip
    if rows and not printing.json:
        print(table(rows, header=["name", "size", "gguf", "vision", "made from"]))
    elif not rows and not printing.json:
        print("no bundles are installed; 'aesedge export CHECKPOINT' makes one")
    for problem in broken:
        print_error(str(problem))
    if broken:
        raise typer.Exit(FAILED)


def _n_bytes(bundle: Bundle) -> int:
    return sum(f.n_bytes for f in bundle.manifest.files)


@with_options(json="Print the bundle's manifest as one JSON object.")
def info(
    name: BundleName = POCKET,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
    printing: Printing = Printing(),
) -> None:
    """Show what is in a bundle: files, prompts, labels, and the figures measured when it was made."""
    bundle = open_bundle(name)
    if card:
        text = bundle.text("card")
        if printing.json:
            print_json({"bundle": bundle.name, "card": text})
        else:
            print("\n".join(shown(line) for line in text.expandtabs().splitlines()))
    elif printing.json:
        print_json(bundle.manifest)
    else:
        _show(bundle)


def _show(bundle: Bundle) -> None:
    from aesedge.cli.tune_quality import curve_text

    m = bundle.manifest
    tokens = m.image_tokens
    fewer = f", down to {tokens.min} by {tokens.method}" if tokens.min < tokens.max else ""
    facts = {
        "made from": " ".join(filter(None, [m.source.checkpoint, m.source.layout, m.source.revision])),
        "made by": m.created_by,
        "license": m.license,
        "image": f"{m.image.size} pixels, {tokens.max} image tokens{fewer}",
        "language model": f"{m.n_embd} wide",
        "template": m.prompt.template,
        "critique": m.prompt.critique,
        "labels": ", ".join(f"{label} ({' or '.join(answers)})" for label, answers in m.rating.labels.items()),
        "attributes": ", ".join(m.rating.attributes),
    }
    blocks = [
        f"{_title(bundle)}\n{table([[key, value] for key, value in facts.items() if value])}",
        _files(m),
        _memory(bundle),
        _tuned(bundle),
        curve_text(tokens) if tokens.curve else "",
        fidelity_text(m),
        comparison_text(m.fidelity.comparison, m) if m.fidelity.comparison else "",
        dim(shown(f"'aesedge info {bundle.typed_name} --card' prints the model card")) if m.types("card") else "",
    ]
    print("\n\n".join(filter(None, blocks)))


def _title(bundle: Bundle) -> str:
    return bold(shown(f"{bundle.name}, {size_text(_n_bytes(bundle))} in {bundle.folder}"))


def _memory(bundle: Bundle) -> str:
    """Return what the bundle takes with default options, in all and by part."""
    from aesedge.config.memory import estimate
    from aesedge.config.options import Options
    from aesedge.config.planning import make_plan

    try:
        plan = make_plan(Options(), bundle)
        needed = estimate(bundle, plan)
    except AesedgeError as error:
        return shown(f"memory: unknown: {error}")
    rows = [[name, size_text(n)] for name, n in needed.parts.items()]
    rows += [[f"on GPU: {name}", size_text(n)] for name, n in needed.gpu_parts.items()]
    chosen = f"{plan.gguf.lower()}, vision {plan.vision.lower()}, --ctx {needed.n_ctx}, --kv-type {plan.kv_type}"
    return f"{bold(f'memory {size_text(needed.needed_bytes)}')} with {chosen}\n{table(rows)}"


def _tuned(bundle: Bundle) -> str:
    """Return what was measured to be fastest here, or how to measure it."""
    from aesedge.cli.tune import tuned_text
    from aesedge.config.profile import load_profile

    m = bundle.manifest
    try:
        profile = load_profile(m, m.defaults.gguf, "auto")
    except AesedgeError as error:
        return shown(f"settings: unknown: {error}")
    if profile is None:
        name = bundle.typed_name
        typed = "aesedge tune" if name == POCKET else f"aesedge tune --bundle {name}"
        return shown(f"settings: not tuned; '{typed}' measures what is fastest here")
    return tuned_text(profile)


def _files(m: Manifest) -> str:
    defaults = {("llm", m.defaults.gguf.lower()), ("vision", m.defaults.vision.lower())}
    rows = [
        [
            f.path,
            f.role,
            f.type.lower(),
            size_text(f.n_bytes),
            "default" if (f.role, f.type.lower()) in defaults else "",
        ]
        for f in m.files
    ]
    return table(rows, header=["file", "role", "type", "size", ""])


def show_made(bundle: Bundle, printing: Printing, *, added: Collection[str] | None = None) -> None:
    """Show what a command made: how faithful it is, and its files.

    Args:
        bundle: the new bundle, or the one with new types.
        printing: as JSON, or quiet, which prints only the bundle's name, size and folder.
        added: types of the language model that were added to an older bundle, lower case; None if all is new.
    """
    m = bundle.manifest
    if printing.json:
        listed: dict[str, list[dict[str, Any]]] = {"files": [], "added": []}
        for f in m.files:
            listed["files"].append({"role": f.role, "type": f.type.lower(), "file": f.path, "bytes": f.n_bytes})
            if added is not None and f.role == "llm" and f.type.lower() in added:
                listed["added"].append({"gguf": f.type.lower(), "file": f.path, "bytes": f.n_bytes})
        found = {"files": listed["files"]} if added is None else listed
        print_json({"bundle": bundle.name, "folder": str(bundle.folder), **found, "fidelity": m.fidelity})
        return
    if not printing.quiet:
        print(f"{fidelity_text(m)}\n\n{_files(m)}\n")
    print(_title(bundle))


@with_options(json="Print one JSON object per file and line, with ok true or false.")
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Installed bundles or folders; all installed ones by default."),
    ] = None,
    printing: Printing = Printing(),
) -> None:
    """Read every file of bundles and compare it with the manifest's hash."""
    opened = broken = False
    for name, name_or_folder in [(name, name) for name in names or []] or [(n, str(f)) for n, f in installed()]:
        try:
            bundle = read_unchecked(name_or_folder)
        except AesedgeError as error:
            opened |= _exists(name_or_folder)
            broken = True
            _print_verified(name, None, str(error), printing)
            continue
        opened = True
        for path, problem in _verified(bundle, quiet=printing.quiet):
            broken |= bool(problem)
            _print_verified(name, path, problem, printing)
    if broken:
        raise typer.Exit(FAILED if opened else USAGE)


def _exists(name: str) -> bool:
    """Whether there is such a bundle, whatever is wrong with it."""
    return any(name in {known, str(folder)} for known, folder in installed()) or Path(name).is_dir()


def _print_verified(name: str, path: str | None, problem: str, printing: Printing) -> None:
    """Print the result for one file of a bundle, or for the bundle if its manifest cannot be read."""
    if printing.json:
        print_json({"bundle": name, "file": path, "ok": not problem, "problem": problem or None})
    elif problem:
        print_error(problem)
    elif not printing.quiet:
        print(f"ok  {shown(name)}  {path}", flush=True)


def _verified(bundle: Bundle, *, quiet: bool) -> list[tuple[str, str]]:
    total, n_read = _n_bytes(bundle), 0
    with status(f"reading {bundle.name}", quiet=quiet) as show:

        def progress(n_bytes: int) -> None:
            nonlocal n_read
            n_read += n_bytes
            show(n_read / max(1, total))

        return [(file.path, problem) for file, problem in bundle.verify(progress)]
