"""A folder of small photos, and a catalogue that knows their scores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jpegs import exif, jpeg

from aesedge.library.catalogue import open_catalogue
from aesedge.library.catalogue_writer import open_writer
from aesedge.library.records import Content, FileState, Frame, Judgement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aesedge.library.records import JudgedPhoto, ScoreFrom

_PHOTO = jpeg(exif())
SETTINGS = {"bundle": "pocket", "gguf": "q8_0", "image_tokens": 144}


def judge(
    folder: Path,
    scores: Mapping[str, float],
    *,
    score_from: ScoreFrom = "model",
    pairs: Mapping[str, str] | None = None,
    critique: str | None = None,
    days: Sequence[float] = (),
    mean_rows: Mapping[str, bytes] | None = None,
    catalogue: Path | None = None,
) -> list[JudgedPhoto]:
    """Make photos that are not there yet, and a catalogue that knows them; return what it knows.

    Args:
        folder: of the photos.
        scores: name to score.
        score_from: who judged.
        pairs: name of a RAW to that of the JPEG that was judged for it.
        critique: of every photo.
        days: when each photo was taken, in seconds.
        mean_rows: name to the mean of its image embeddings.
        catalogue: the file; the user's own by default.
    """
    pairs = pairs or {}
    for name in [*scores, *pairs]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(_PHOTO if path.suffix.lower() in {".jpg", ".jpeg"} else b"II*\0raw " + name.encode())
    with open_writer(catalogue) as writer, writer.transaction():
        settings = writer.use_settings(SETTINGS)
        for i, (name, score) in enumerate(scores.items()):
            path = os.path.realpath(folder / name)
            about = Content(width=16, height=16, taken_at=days[i] if days else None, thumbnail=bytes(768))
            content = writer.add_content(path.encode(), about)
            writer.add_file(path, FileState(1, 1, 1), content, tail=None)
            for raw, judged in pairs.items():
                if judged == name:
                    raw_path = os.path.realpath(folder / raw)
                    writer.add_file(raw_path, FileState(1, 1, 1), content, tail=None, judged_as=path)
            rating = {"score": round(score / 2, 2), "rating": {"high": 0.5, "low": 0.5}}
            result = {
                "rating": {"high": 0.6, "low": 0.4},
                "attributes": {"composition": rating, "light & shade": rating},
            }
            row = (mean_rows or {}).get(name, bytes(8))
            writer.add_judgement(content, settings, Judgement(score, result, row, score_from, critique=critique))
        writer.set_frames({1: Frame(1, "burst", 1, 2, "sharper than the other")} if len(scores) > 1 else {})
    with open_catalogue(catalogue) as opened:
        return list(opened.judgements(folder))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
