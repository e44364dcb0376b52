"""The commands ``bundles``, ``info`` and ``verify``: what is installed and whether it is intact; loads no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aesedge.bundle.bundle import POCKET, Bundle, both_names, installed, open_bundle, read_unchecked
from aesedge.bundle.manifest import Manifest
from aesedge.cli.exit_codes import SOME_FAILED, USAGE
from aesedge.cli.fidelity import fidelity_text
from aesedge.cli.options import Printing, expand
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, print_error, shown, size, status, table
from aesedge.errors import AesedgeError


@expand
def bundles(printing: Printing = Printing()) -> None:
    """List the installed bundles."""
    found, broken = [], []
    for name, folder in installed():
        try:
            found.append((name, open_bundle(folder)))
        except AesedgeError as error:
            broken.append(error)
    if printing.json:
        for name, bundle in found:
            print_json(_summary(name, bundle))
    elif found:
        rows = [
            [both_names(name, b.name), size(_n_bytes(b)), *_types(b), shown(b.manifest.source.checkpoint)]
            for name, b in found
        ]
        print(table(rows, header=["name", "size", "gguf", "vision", "made from"]))
    else:
        print("no bundles are installed; 'aesedge export CHECKPOINT' makes one")
    for problem in broken:
        print_error(str(problem))
    if broken:
        raise typer.Exit(SOME_FAILED)


def _types(bundle: Bundle) -> list[str]:
    return [" ".join(t.lower() for t in bundle.manifest.types(role)) for role in ("llm", "vision")]


def _n_bytes(bundle: Bundle) -> int:
    return sum(f.n_bytes for f in bundle.manifest.files)


def _summary(name: str, bundle: Bundle) -> dict[str, Any]:
    gguf, vision = _types(bundle)
    return {
        "name": name,
        "name_in_manifest": bundle.name,
        "folder": str(bundle.folder),
        "bytes": _n_bytes(bundle),
        "gguf": gguf.split(),
        "vision": vision.split(),
        "checkpoint": bundle.manifest.source.checkpoint,
    }


@expand
def info(
    name: Annotated[str, typer.Argument(help="Name of a bundle, or its folder.")] = POCKET,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
    printing: Printing = Printing(),
) -> None:
    """Show what is in a bundle: files, prompts, labels, and the figures measured when it was exported."""
    bundle = open_bundle(name)
    if card:
        print("\n".join(shown(line) for line in bundle.text("card").expandtabs().splitlines()))
    elif printing.json:
        print_json(bundle.manifest)
    else:
        _show(bundle)


def _show(bundle: Bundle) -> None:
    m = bundle.manifest
    tokens = m.image_tokens
    print(bold(shown(f"{m.name}, {size(_n_bytes(bundle))} in {bundle.folder}")))
    facts = {
        "made from": " ".join(filter(None, [m.source.checkpoint, m.source.layout, m.source.revision])),
        "made by": m.created_by,
        "license": m.license,
        "image": f"{m.image.size} pixels, {tokens.max} image tokens"
        + (f", down to {tokens.min} by {tokens.method}" if tokens.min < tokens.max else ""),
        "language model": f"{m.n_embd} wide",
        "template": m.prompt.template,
        "critique": m.prompt.critique,
        "labels": ", ".join(f"{label} ({' or '.join(answers)})" for label, answers in m.rating.labels.items()),
        "attributes": ", ".join(m.rating.attributes),
    }
    print(table([[key, value] for key, value in facts.items() if value]))
    print(f"\n{_files(m)}\n\n{_memory(bundle)}\n\n{_tuned(bundle)}\n\n{_image_tokens(m)}{fidelity_text(m)}")
    if m.types("card"):
        print("\n" + dim(shown(f"'aesedge info {bundle.typed_name} --card' prints the model card")))


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
    rows = [[name, size(n)] for name, n in needed.parts.items()]
    rows += [[f"on GPU: {name}", size(n)] for name, n in needed.gpu_parts.items()]
    chosen = f"{plan.gguf.lower()}, vision {plan.vision.lower()}, --ctx {needed.n_ctx}, --kv-type {plan.kv_type}"
    return f"{bold(f'memory {size(needed.needed_bytes)}')} with {chosen}\n{table(rows)}"


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
        return shown(f"settings: not tuned; 'aesedge tune {bundle.typed_name}' measures what is fastest here")
    return tuned_text(profile)


def _image_tokens(m: Manifest) -> str:
    """Return what fewer image tokens cost, where somebody measured it."""
    from aesedge.cli.tune_quality import curve_text

    return f"{curve_text(m.image_tokens)}\n\n" if m.image_tokens.curve else ""


def show_made(bundle: Bundle) -> None:
    """Show what a command made: how faithful it is, and its files."""
    print(f"{fidelity_text(bundle.manifest)}\n\n{_files(bundle.manifest)}\n")
    print(bold(shown(f"{bundle.name}, {size(_n_bytes(bundle))} in {bundle.folder}")))


def _files(m: Manifest) -> str:
    defaults = {("llm", m.defaults.gguf.lower()), ("vision", m.defaults.vision.lower())}
    rows = [
        [f.path, f.role, f.type.lower(), size(f.n_bytes), "default" if (f.role, f.type.lower()) in defaults else ""]
        for f in m.files
    ]
    return table(rows, header=["file", "role", "type", "size", ""])


@expand
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Bundles or folders; all installed ones if none.")] = None,
    printing: Printing = Printing(),
) -> None:
    """Read every file of bundles and compare it with the manifest's hash."""
    opened = broken = False
    asked = [(name, name) for name in names or []] or [(name, str(folder)) for name, folder in installed()]
    for name, bundle_or_folder in asked:
        try:
            bundle = read_unchecked(bundle_or_folder)
        except AesedgeError as error:
            opened |= _is_there(bundle_or_folder)
            broken = True
            _say_verified(name, None, str(error), printing)
            continue
        opened = True
        for path, problem in _verified(bundle, quiet=printing.quiet):
            broken |= bool(problem)
            _say_verified(name, path, problem, printing)
    if broken:
        raise typer.Exit(SOME_FAILED if opened else USAGE)


def _is_there(name: str) -> bool:
    """Whether there is such a bundle, whatever is wrong with it."""
    return any(name in {known, str(folder)} for known, folder in installed()) or Path(name).is_dir()


def _say_verified(name: str, path: str | None, problem: str, printing: Printing) -> None:
    """Say what is known of a file of a bundle, or of the bundle where no file could be looked at."""
    if printing.json:
        found = {"bundle": name, "file": path, "ok": not problem, "problem": problem or None}
        print_json(found)
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
