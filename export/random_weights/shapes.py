"""Define the shape of a LLaVA-1.5 as numbers, by name or parsed from text."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from aesedge.bundle.manifest import NAME_PATTERN
from aesedge.errors import UsageError

_LARGEST = 1 << 24


@dataclass(frozen=True)
class TowerShape:
    """A CLIP tower; behind it stands a projector of two linears."""

    image_size: int = 336
    patch_size: int = 14
    hidden: int = 1024
    n_heads: int = 16
    n_layers: int = 23
    """Layers that run: LLaVA-1.5 leaves the last of 24 out."""
    intermediate: int = 4096


@dataclass(frozen=True)
class ModelShape:
    """A language model and the tower that it sees with; the defaults are LLaVA-1.5 7B's."""

    name: str
    n_embd: int = 4096
    n_ff: int = 11008
    n_head: int = 32
    n_head_kv: int = 32
    n_layer: int = 32
    n_vocab: int = 32000
    n_ctx: int = 4096
    """Positions that the model says to be trained with."""
    tower: TowerShape = TowerShape()

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head

    def __str__(self) -> str:
        """Return the text that :func:`parse_shape` reads, all numbers in it, whether they are defaults or not."""
        return f"{self.name}:" + ",".join(f"{key}={value}" for key, value in _numbers(self).items())


SHAPES = {
    shape.name: shape
    for shape in (
        ModelShape("llava-1.5-7b"),
        ModelShape("llava-1.5-13b", n_embd=5120, n_ff=13824, n_head=40, n_head_kv=40, n_layer=40),
        # The language model inside the wheel, held against its files by a test; its own tower is no CLIP.
        ModelShape(
            "pocket",
            n_embd=256,
            n_ff=512,
            n_head=4,
            n_head_kv=4,
            n_layer=3,
            n_vocab=2048,
            n_ctx=1024,
            tower=TowerShape(image_size=480, patch_size=40, hidden=256, n_heads=4, n_layers=3, intermediate=1024),
        ),
    )
}


def parse_shape(text: str) -> ModelShape:
    """Return a shape by name, or a custom one: ``name:n_embd=2048,n_layer=22,tower.n_layers=11``.

    What is not stated is as in LLaVA-1.5 7B; ``n_head_kv`` is ``n_head`` then.

    Raises:
        UsageError: there is no such shape or number, or the numbers do not go together.
    """
    name, colon, changes = text.strip().partition(":")
    if not colon:
        if name not in SHAPES:
            raise UsageError(
                f"unknown shape {name!r}; there are {', '.join(SHAPES)}, and shapes of your own: name:n_embd=2048,..."
            )
        return SHAPES[name]
    if name in SHAPES:
        raise UsageError(f"{name!r} is a shape with numbers of its own; give the changed one another name")
    numbers = dict(_pair(part) for part in changes.split(",") if part.strip())
    numbers.setdefault("n_head_kv", numbers.get("n_head", ModelShape.n_head_kv))
    inner = {key.removeprefix("tower."): value for key, value in numbers.items() if key.startswith("tower.")}
    outer: dict[str, Any] = {key: value for key, value in numbers.items() if not key.startswith("tower.")}
    return checked_shape(ModelShape(name, tower=TowerShape(**inner), **outer))


def checked_shape(shape: ModelShape) -> ModelShape:
    """Return a shape whose numbers go together.

    Raises:
        UsageError: they do not.
    """
    if not re.fullmatch(NAME_PATTERN, shape.name):
        raise UsageError(f"{shape.name!r} is not a name: letters, digits, '.', '_' and '-', beginning with a letter")
    for key, value in _numbers(shape).items():
        if not 0 < value < _LARGEST:
            raise UsageError(f"{shape.name}: {key} is {value}; give a number from 1 to {_LARGEST - 1}")
    tower = shape.tower
    for whole, part in (
        ("n_embd", "n_head"),
        ("n_head", "n_head_kv"),
        ("tower.hidden", "tower.n_heads"),
        ("tower.image_size", "tower.patch_size"),
    ):
        numbers = _numbers(shape)
        if numbers[whole] % numbers[part]:
            raise UsageError(f"{shape.name}: {whole} {numbers[whole]} is no multiple of {part} {numbers[part]}")
    if shape.head_dim % 2:
        raise UsageError(f"{shape.name}: heads are {shape.head_dim} wide; rotary positions take an even width")
    if tower.patch_size == tower.image_size:
        raise UsageError(f"{shape.name}: the image is one patch of {tower.patch_size} pixels; give it several")
    return shape


def _numbers(shape: ModelShape) -> dict[str, int]:
    """Return every number by the key that stands for it in a text."""
    outer = {field.name: getattr(shape, field.name) for field in fields(shape) if field.name not in {"name", "tower"}}
    return outer | {f"tower.{field.name}": getattr(shape.tower, field.name) for field in fields(shape.tower)}


def _pair(part: str) -> tuple[str, int]:
    key, _, value = (piece.strip() for piece in part.partition("="))
    known = _numbers(ModelShape(""))
    if key not in known:
        raise UsageError(f"unknown key {key!r} of a shape; there are {', '.join(known)}")
    if not re.fullmatch(r"\d{1,9}", value):
        raise UsageError(f"{key}={value}: not a number; give one as in {key}={known[key]}")
    return key, int(value)
