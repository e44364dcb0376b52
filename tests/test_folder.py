"""Which files of a folder count as photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.folder import photos_in

if TYPE_CHECKING:
    from pathlib import Path


def test_photos_are_found_below_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/c.heic", ".trash/d.jpg", "sub/deep/e.nef"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "sub" / "circle").symlink_to(tmp_path, target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in photos_in(tmp_path)]
    assert found == ["a.png", "b.JPG", "sub/c.heic", "sub/deep/e.nef"]
