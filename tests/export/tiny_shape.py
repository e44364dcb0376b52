"""The shape of a tiny bundle of random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge_export.random_weights.shapes import ModelShape, TowerShape

if TYPE_CHECKING:
    from pathlib import Path

TOWER = TowerShape(image_size=48, patch_size=8, hidden=64, n_heads=2, n_layers=3, intermediate=96)
TINY = ModelShape("tiny", n_embd=256, n_ff=512, n_head=4, n_head_kv=2, n_layer=4, n_vocab=1024, n_ctx=1024, tower=TOWER)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
