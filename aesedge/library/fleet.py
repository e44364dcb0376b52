"""Rate a library on a Ray cluster: photos in parts, each part a catalogue that is written whole, then merged.

The only module that imports ray. A part's name is a hash of its photos and of the settings, so a part that is there is
never made again, whichever driver or worker died in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aesedge.bundle.bundle import open_bundle
from aesedge.errors import AesedgeError, MissingExtraError, UsageError
from aesedge.library.catalogue_writer import open_writer
from aesedge.library.merging import merge
from aesedge.library.rating import Rater, RatingOptions
from aesedge.system.ordered_map import batched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aesedge.config.options import Options
    from aesedge.library.catalogue_writer import CatalogueWriter
    from aesedge.library.finding import Picture

PART_PHOTOS = 64
"""Photos whose judgements a worker that dies may lose."""
_SUFFIX = ".aesedge"


def rate_on_ray(catalogue: CatalogueWriter, pictures: Sequence[Picture], rater: Rater) -> Iterator[tuple[int, int]]:
    """Rate pictures on the cluster that ``RAY_ADDRESS`` names, or on this machine.

    Args:
        catalogue: what the parts are merged into; they are written to a folder beside it, which workers share.
        pictures: what is rated; all workers see them under the same paths.
        rater: workers rate as it would; its bundle's folder is the same on all of them.

    Yields:
        How many parts are done, and how many there are.

    Raises:
        MissingExtraError: ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--on ray", "fleet") from error
    folder = catalogue.path.with_name(f"{catalogue.path.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        _key(group, rater.settings): [picture.name for picture in group] for group in batched(pictures, PART_PHOTOS)
    }
    missing = [
        {"part": str(folder / f"{key}{_SUFFIX}"), "photos": json.dumps(photos)}
        for key, photos in parts.items()
        if not (folder / f"{key}{_SUFFIX}").exists()
    ]
    yield len(parts) - len(missing), len(parts)
    if missing:
        ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False, logging_level="error")
        try:
            yield from _run(missing, len(parts), rater.recipe)
        finally:
            ray.shutdown()
    for key in parts:
        part = folder / f"{key}{_SUFFIX}"
        merge(part, catalogue)
        part.unlink()
        for left in folder.glob(f".{part.name}-*"):  # by a worker that was killed
            left.unlink()
    with suppress(OSError):  # parts of another call may be there
        folder.rmdir()


def _run(missing: list[dict[str, str]], n_parts: int, arguments: tuple[Any, ...]) -> Iterator[tuple[int, int]]:
    """Make the parts; a worker that dies is replaced, and its part made again."""
    import ray
    import ray.data

    n_workers = max(1, min(len(missing), int(ray.cluster_resources().get("CPU", 1))))
    blocks = ray.data.from_items(missing, override_num_blocks=len(missing))
    made = blocks.map_batches(
        _PartRater, batch_size=1, concurrency=n_workers, num_cpus=1, fn_constructor_args=arguments
    )
    n_done = n_parts - len(missing)
    for row in made.iter_rows():
        if row["error"]:
            raise AesedgeError(f"{row['part']}: a worker failed: {row['error']}")
        n_done += 1
        yield n_done, n_parts


def _key(pictures: Sequence[Picture], settings: dict[str, Any]) -> str:
    """Return the name of a part: other photos, changed photos or other settings make another one."""
    words = [json.dumps(settings, sort_keys=True)]
    for picture in pictures:
        words += [os.fsencode(picture.name).hex(), repr(picture.file.state)]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]


class _PartRater:
    """An actor that holds a model and makes parts."""

    def __init__(self, bundle: str, options: Options, how: RatingOptions) -> None:
        self._rater = Rater(open_bundle(bundle), options, how)

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"part": [], "error": []}
        for part, photos in zip(rows["part"], rows["photos"], strict=True):
            found["part"].append(str(part))
            try:
                self._make(Path(str(part)), json.loads(str(photos)))
            except AesedgeError as error:  # Ray's own text would be fifty lines
                found["error"].append(str(error))
            else:
                found["error"].append("")
        return found

    def _make(self, part: Path, photos: list[str]) -> None:
        if part.exists():
            return
        written = part.with_name(f".{part.name}-{secrets.token_hex(4)}")
        try:
            with open_writer(written) as file:
                for _ in self._rater.rate(file, photos):
                    pass
            with closing(sqlite3.connect(written)) as connection:  # one file, without its log
                connection.execute("PRAGMA journal_mode=DELETE")
            written.replace(part)
        finally:
            for path in part.parent.glob(f"{written.name}*"):
                path.unlink(missing_ok=True)


def listed_photos(path: Path) -> list[str]:
    """Return the paths in a list: a text with one on each line, or a Parquet with a column ``path``.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        if path.suffix.lower() != ".parquet":
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            return [line for line in text.splitlines() if line]
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtraError(f"{path} is a Parquet", "tables") from error
        return [str(name) for name in parquet.read_table(path, columns=["path"])["path"].to_pylist() if name]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: is no list of photos: {error}; write one path on each line") from None
