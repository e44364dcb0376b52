"""Pull a bundle by name: look up, licence, disk space, download, export, verify, clean up."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from aesedge.bundle.bundle import open_bundle
from aesedge.errors import BundleIntegrityError, DownloadError, MissingExtraError, UsageError
from aesedge.image import read_image
from aesedge.system.byte_sizes import size_text
from aesedge.system.paths import data_folder

from ..disk_space import bundle_bytes, on_one_disk, require_space
from ..language.tensor_types import parse_type
from ..plan import DEFAULT_GGUF, DEFAULT_VISION, checked_name, checked_precisions, listed
from ..work_folder import check_target
from .catalogue import REPOSITORY_PATTERN, CatalogueEntry, catalogue, find
from .checkpoint_store import FOLDER_NAME, Download, alone, checkpoint_of, pinned
from .download import look_up
from .hub_errors import UnknownRevisionError, host
from .pull_progress import display_download

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle

Say = Callable[[str], None]
"""Shows one line of what is being done."""

_HF_ARCHITECTURE = "LlavaForConditionalGeneration"  # this layout always holds its vision tower


@dataclass(frozen=True)
class Export:
    """How the bundle is made of the checkpoint: the options of ``aesedge export`` that ``aesedge pull`` passes on."""

    gguf: str = DEFAULT_GGUF
    vision: str = DEFAULT_VISION
    vision_tower: Path | None = None
    photos: Sequence[Path] = ()
    calibrate: Sequence[Path] = ()
    parity: bool = True

    @property
    def gguf_types(self) -> list[str]:
        """Quantization types, upper case."""
        return [parse_type(part) for part in listed(self.gguf)]

    @property
    def vision_types(self) -> list[str]:
        """Precisions of the vision graph."""
        return checked_precisions(listed(self.vision))


def pull(  # noqa: PLR0913 (one argument for each option of the command)
    asked: str,
    *,
    out: Path | None = None,
    name: str | None = None,
    options: Export | None = None,
    overwrite: bool = False,
    confirm: Callable[[], bool],
    keep_checkpoint: bool = False,
    say: Say = print,
    quiet: bool = False,
) -> Bundle:
    """Download a checkpoint and make a bundle of it.

    Args:
        asked: a name of the catalogue, or ``owner/name``; either may end in ``@revision``.
        out: the bundle's folder; by default its name among the installed bundles.
        name: the bundle's name; by default the catalogue's or the repository's.
        options: how the bundle is made.
        overwrite: whether a bundle that is there may be replaced.
        confirm: asked once, after the licence was shown; nothing is downloaded unless it is true.
        keep_checkpoint: whether the download stays on disk after the bundle was made and verified.
        say: shows a line.
        quiet: whether to show no progress.

    Returns:
        The bundle.

    Raises:
        UsageError: the name is unknown, an option is wrong, or the licence was not accepted.
        MissingExtraError: a package that the export needs is not installed.
        DownloadError: the download failed; what came is kept, and the same call goes on from there.
        BundleError: there is no room, found before anything is downloaded, or the bundle is not intact.
        CheckpointError: the checkpoint cannot be exported; it is kept.
        ParityError: the bundle differs from PyTorch; the checkpoint is kept.
    """
    options = options or Export()
    entry = find(asked)
    name = checked_name(name or (out.name if out is not None else entry.name))
    out = (out or data_folder() / name).absolute()
    _check_options(name, out, options, overwrite=overwrite)
    with alone(entry.repository):
        checkpoint = _chosen(entry, say)
        _show(entry, checkpoint, say)
        if not confirm():
            raise UsageError(
                f"{entry.repository}: the licence was not accepted, nothing is downloaded; --accept-license accepts it"
            )
        _check_space(checkpoint, out, options)
        with _kept(checkpoint, say):
            tower = _fetch(entry, checkpoint, options, say, quiet=quiet)
            bundle = _export(entry, checkpoint, tower, out, name, options, overwrite=overwrite, quiet=quiet)
            _verify(out)
        say(f"verified: {len(bundle.manifest.files)} files of {out}")
        if keep_checkpoint:
            say(f"the checkpoint is kept in {checkpoint.folder}")
        else:
            for done in (checkpoint, *([tower] if tower is not None else [])):
                done.drop()
            say(f"the checkpoint is removed ({size_text(checkpoint.n_bytes)}); --keep-checkpoint keeps it")
    return bundle


def _check_options(name: str, out: Path, options: Export, *, overwrite: bool) -> None:
    """Check now what would otherwise make the export fail hours later."""
    packages = ("torch", "transformers", "optimum", "onnx", "gguf", "safetensors", "sentencepiece")
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtraError(f"exporting what is downloaded uses the package '{missing[0]}'", "export")
    if name == FOLDER_NAME and out.parent == data_folder().absolute():
        raise UsageError(f"{name!r} is where downloads are kept; give the bundle another name with --name")
    check_target(out, overwrite=overwrite)
    if not options.gguf_types:
        raise UsageError("no quantization type is asked for; a bundle needs one")
    checked_precisions(options.vision_types)
    if options.vision_tower is not None and not (options.vision_tower / "config.json").is_file():
        raise UsageError(f"{options.vision_tower}: no CLIP model (no config.json in it); leave --vision-tower out")
    for photo in options.photos:
        read_image(photo)


def _chosen(entry: CatalogueEntry, say: Say) -> Download:
    """Return the commit that is taken: that of an earlier download of the same, else what the hub says now."""
    before = pinned(entry.repository, entry.revision)
    if before is not None:
        say(f"going on with the commit of an earlier download; to take another one remove {before.folder}")
        return before
    say(f"asking {host()} about {entry.repository}")
    try:
        return checkpoint_of(look_up(entry.repository, entry.revision))
    except UnknownRevisionError:
        if not entry.revision_note:  # the user named it
            raise
        say(f"note: {entry.repository} has no commit {entry.revision} as the catalogue says; taking its newest one")
        return checkpoint_of(look_up(entry.repository))


def _show(entry: CatalogueEntry, checkpoint: Download, say: Say) -> None:
    say(f"repository: {entry.repository}")
    say(f"commit:     {checkpoint.listing.commit}")
    say(f"download:   {size_text(checkpoint.n_bytes)} in {len(checkpoint.files)} files")
    say(f"licence:    {_license(entry, checkpoint)}" + (f", {entry.license_url}" if entry.license_url else ""))


def _license(entry: CatalogueEntry, checkpoint: Download) -> str:
    """Return the licence of the weights: the catalogue's, else what the repository's card says."""
    return entry.license or checkpoint.listing.license or "not stated"


def _check_space(checkpoint: Download, out: Path, options: Export) -> None:
    """Check that the disk has room for the rest of the download and the bundle together."""
    tower = options.vision_tower is None and checkpoint.listing.architecture != _HF_ARCHITECTURE
    download = checkpoint.n_bytes - checkpoint.n_present_bytes() + tower * catalogue().vision_tower.n_bytes
    weights = sum(file.n_bytes for file in checkpoint.files if file.is_weights)
    n_parameters = checkpoint.listing.n_parameters or weights / 2
    bundle = bundle_bytes(n_parameters, options.gguf_types, options.vision_types)
    if on_one_disk(checkpoint.folder, out.parent):
        what = f"the checkpoint ({size_text(download)} still to come) and the bundle (about {size_text(bundle)})"
        require_space(checkpoint.folder, download + bundle, what)
    else:
        require_space(checkpoint.folder, download, "the checkpoint")
        require_space(out.parent, bundle, "the bundle")


@contextmanager
def _kept(checkpoint: Download, say: Say) -> Iterator[None]:
    """On any error, say where the download is kept: the next run resumes it."""
    try:
        yield
    except BaseException:
        n_bytes = checkpoint.n_present_bytes()
        if n_bytes:
            state = "complete" if n_bytes == checkpoint.n_bytes else f"{n_bytes / checkpoint.n_bytes:.0%} of it"
            say(f"the checkpoint is kept in {checkpoint.folder} ({state}); the same command goes on from there")
        raise


def _fetch(entry: CatalogueEntry, checkpoint: Download, options: Export, say: Say, *, quiet: bool) -> Download | None:
    """Download the checkpoint, and the vision tower where it has none; return the tower."""
    _download(checkpoint, entry.revision, quiet=quiet)
    if options.vision_tower is not None:
        return None
    repository = _tower_repository(checkpoint.folder)
    if not repository:
        return None
    say(f"the vision tower is not in it and comes from {repository}")
    tower = pinned(repository, "") or checkpoint_of(look_up(repository))
    require_space(tower.folder, tower.n_bytes - tower.n_present_bytes(), "the vision tower")
    _download(tower, "", quiet=quiet)
    return tower


def _download(checkpoint: Download, asked: str, *, quiet: bool) -> None:
    with display_download(checkpoint, quiet=quiet) as progress:
        try:
            checkpoint.fetch(asked, progress)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DownloadError(
                f"{checkpoint.folder}: cannot be written: {reason}; make room, the same command goes on from there"
            ) from None


def _tower_repository(folder: Path) -> str:
    """Return the repository of the vision tower, or nothing where the checkpoint holds the tower."""
    from ..checkpoint.json_file import read_config
    from ..checkpoint.weights import open_weights

    config = read_config(folder)
    names = list(open_weights(folder) or {})
    if "mm_projector_type" not in config or any("vision_tower." in tensor for tensor in names):
        return ""
    named = str(config.get("mm_vision_tower") or config.get("vision_tower") or "")
    # Some configurations name a folder on the trainer's machine.
    return named if re.fullmatch(REPOSITORY_PATTERN, named) else catalogue().vision_tower.repository


def _export(
    entry: CatalogueEntry,
    checkpoint: Download,
    tower: Download | None,
    out: Path,
    name: str,
    options: Export,
    *,
    overwrite: bool,
    quiet: bool,
) -> Bundle:
    from ..cli import export_command

    return export_command(
        checkpoint.folder,
        out=out,
        name=name,
        gguf=options.gguf,
        vision=options.vision,
        license=_license(entry, checkpoint),
        vision_tower=options.vision_tower or (tower.folder if tower is not None else None),
        photos=list(options.photos) or None,
        calibrate=options.calibrate,
        source_name=entry.repository,
        revision=checkpoint.listing.commit,
        parity=options.parity,
        overwrite=overwrite,
        quiet=quiet,
    )


def _verify(out: Path) -> None:
    for file, problem in open_bundle(out).verify():
        if problem:
            raise BundleIntegrityError(f"{file.path}: {problem}")
