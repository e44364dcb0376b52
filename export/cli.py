"""What ``aesedge export`` does and shows; the options are declared where the other commands are."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from aesedge.bundle import data_folder

from . import export_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from aesedge.manifest import Manifest

DEFAULT_GGUF = "q8_0,q4_k_m"


def export_command(  # noqa: PLR0913 (one argument for each option of the command)
    checkpoint: Path,
    *,
    out: Path | None = None,
    name: str | None = None,
    gguf: str = DEFAULT_GGUF,
    license: str = "not stated",  # noqa: A002 (the option's name)
    vision_tower: Path | None = None,
    photos: Sequence[Path] | None = None,
    parity: bool = True,
    overwrite: bool = False,
    console: Console | None = None,
) -> Manifest:
    """Export a checkpoint with progress on stderr and the parity table on stdout.

    Args:
        checkpoint: its folder.
        out: the bundle's folder; by default the bundle's name in the folder of installed bundles.
        name: the bundle's name; by default that of ``out`` or of the checkpoint.
        gguf: quantization types, separated by commas, any case; the first is loaded by default, or Q4_K_M.
        license: licence of the weights.
        vision_tower: folder of the CLIP model of an original-LLaVA checkpoint that does not hold it.
        photos: what parity is measured on; by default the sample photographs.
        parity: whether to compare with PyTorch.
        overwrite: whether a bundle that is there may be replaced.
        console: where the result is shown; by default stdout.

    Raises:
        AesedgeError: see :func:`.exporter.export_checkpoint`.
    """
    name = name or (out.name if out is not None else _name_of(checkpoint))
    out = out or data_folder() / name
    with _shown_progress() as report:
        manifest = export_checkpoint(
            checkpoint,
            out,
            name=name,
            gguf_types=[part for part in gguf.split(",") if part.strip()],
            license=license,
            vision_tower=vision_tower,
            photos=photos,
            parity=parity,
            overwrite=overwrite,
            progress=report,
        )
    _show(manifest, out, console or Console())
    return manifest


def _name_of(checkpoint: Path) -> str:
    """Make a bundle's name of a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.resolve().name).lstrip("._-") or "bundle"


class _Report:
    """Shows each step: a bar on a terminal, a line when it is done elsewhere."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console, self._bars = console, bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, share: float) -> None:
        if not self._console.is_terminal:
            if share >= 1:
                self._console.print(f"{step}: done", highlight=False)
            return
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=1.0)
        self._bars.update(self._tasks[step], completed=share)


@contextmanager
def _shown_progress() -> Iterator[_Report]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield _Report(console, bars)


def _show(manifest: Manifest, out: Path, console: Console) -> None:
    if manifest.fidelity["checked"]:
        console.print(_stage_table(manifest.fidelity))
    else:
        console.print("not compared with PyTorch; the manifest says so")
    console.print(_file_table(manifest))
    console.print(f"{manifest.name}: {out}", soft_wrap=True, highlight=False)


def _stage_table(fidelity: dict[str, Any]) -> Table:
    table = Table(title=f"parity with {fidelity['reference']}", title_justify="left")
    for column in ("stage", "figure", "measured", "limit"):
        table.add_column(column, justify="left" if column in {"stage", "figure"} else "right")
    for record in fidelity["stages"]:
        for key, value in record["figures"].items():
            limit = record["limits"].get(key)
            sign = ">=" if key.startswith(("min_", "n_")) else "<="
            table.add_row(record["stage"], key, _number(value), "" if limit is None else f"{sign} {_number(limit)}")
    return table


def _file_table(manifest: Manifest) -> Table:
    table = Table(title="files", title_justify="left")
    for column in ("file", "type", "MiB", "mean KL to F16", "same first token"):
        table.add_column(column, justify="left" if column in {"file", "type"} else "right")
    types: dict[str, Any] = manifest.fidelity["types"]
    for file in manifest.files:
        figures = types.get(file.type, {})
        kl = _number(figures["mean_kl"]) if "mean_kl" in figures else ""
        same = f"{figures['n_argmax_equal']}/{figures['n_prompts']}" if "n_prompts" in figures else ""
        table.add_row(file.path, file.type, f"{file.n_bytes / 2**20:.1f}", kl, same)
    return table


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}" if value > 0.99 else f"{value:.2e}"
