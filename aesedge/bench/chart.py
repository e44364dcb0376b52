"""A result as one picture: where a photo's time goes, and what the language model reaches; knows pixels and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from aesedge.bench.figures import digits, parameters, rate_text, time_text, words
from aesedge.bench.result import RANDOM_WEIGHTS
from aesedge.bench.tables import machine_name, part_name
from aesedge.errors import UsageError
from aesedge.plot import COLORS, save_png
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.bench.result import Result, Row

_WIDTH, _LEFT, _RIGHT, _MARGIN = 1280, 210, 400, 32
_BAR, _STEP, _HEAD = 28, 42, 46
_INK, _PALE, _EMPTY = "#222222", "#666666", "#ececec"
_PARTS = {
    "decode_image_s": COLORS[4],
    "vision_s": COLORS[1],
    "prefill_s": COLORS[0],
    "first_token_s": COLORS[2],
    "decode_s": COLORS[3],
}
_WHOLE, _SHARE = COLORS[6], COLORS[7]
_LEAST_SHOWN = 2.0  # a part that was measured is seen, however short


@dataclass(frozen=True)
class _Bar:
    """Something with a length, in pieces of its own colours."""

    name: str
    pieces: Sequence[tuple[str, float]]
    """Colours and lengths."""
    said: str
    reach: float = 0.0
    """Length that it could have; 0 where nobody knows."""


def save_chart(result: Result, path: Path) -> None:
    """Draw a result as PNG, whole or not at all.

    Raises:
        UsageError: nothing of what was measured can be drawn.
        OSError: the folder cannot be written.
    """
    times, shares = _times(result.rows), _shares(result.rows)
    if not times and not shares:
        raise UsageError(f"{path}: nothing was measured that could be drawn")
    save_png(_Picture(result, times, shares).image(), path)


def _times(rows: Sequence[Row]) -> list[_Bar]:
    """Return what users wait for: the first token by what is cached, and whole photos one after the other."""
    bars = []
    for row in rows:
        if row.group != "photo" or not row.samples_ns or not (row.cache_state or row.unit == "photos"):
            continue
        seconds = row.median_s / (row.n if row.unit and row.n else 1)
        pieces = [(_PARTS.get(name, _WHOLE), value) for name, value in row.parts_s.items()]
        said = time_text(seconds) + (f"; {' ± '.join(rate_text(row))} {row.rate_unit}" if row.unit else "")
        bars.append(_Bar(row.test, pieces or [(_WHOLE, seconds)], said))
    return bars


def _shares(rows: Sequence[Row]) -> list[_Bar]:
    """Return the rates of the language model, each as long as the share of the ceiling that it reaches."""
    bars = []
    for row in rows:
        if row.group != "language" or not row.samples_ns:
            continue
        rate = f"{' ± '.join(rate_text(row))} {row.rate_unit}"
        if row.percent_of:
            ceiling, percent = max(row.percent_of.items(), key=lambda share: share[1])
            said = f"{rate}; {digits(percent, 2)} % of {words(ceiling)}"
            bars.append(_Bar(row.test, [(_SHARE, min(percent, 100.0))], said, reach=100.0))
        else:
            bars.append(_Bar(row.test, [], rate))
    return bars


class _Picture:
    """A result on its way to pixels."""

    def __init__(self, result: Result, times: list[_Bar], shares: list[_Bar]) -> None:
        self._result, self._times, self._shares = result, times, shares
        panels = sum(_HEAD + _STEP * len(bars) + 20 for bars in (times, shares) if bars)
        self._image = Image.new("RGB", (_WIDTH, 112 + panels + (34 if times else 0) + 44), "white")
        self._pen = ImageDraw.Draw(self._image)
        self._large, self._font, self._small = (ImageFont.load_default(size) for size in (26, 18, 15))

    def image(self) -> Image.Image:
        """Draw everything."""
        card = self._result.card
        random = f" ({RANDOM_WEIGHTS} of shape {card.random_weights})" if card.random_weights else ""
        self._write((_MARGIN, 46), f"{card.model_type}{random}", self._large)
        facts = [
            card.bundle, f"{parameters(card.model_n_params)} parameters", f"vision {card.plan.get('vision', '-')}",
            f"{card.plan.get('n_image_tokens', '-')} image tokens", f"{card.plan.get('threads', '-')} threads",
            machine_name(card), card.backend,
        ]  # fmt: skip
        self._write((_MARGIN, 80), ", ".join(dict.fromkeys(facts)), self._font, _PALE)
        top = 112
        if self._times:
            longest = max(sum(length for _, length in bar.pieces) for bar in self._times)
            top = self._panel(
                top,
                "Where a photo's time goes: to the first token (ttft) by what is cached, and whole photos (medians)",
                self._times,
                longest,
            )
            top = self._legend(top)
        if self._shares:
            self._panel(top, "Language model: rate, and share of the measured ceiling", self._shares, 100.0)
        state = "; incomplete: interrupted" if not self._result.complete else ""
        footer = f"aesedge {card.aesedge}, {card.started_at[:10]}; rates: mean ± standard deviation{state}"
        self._write((_MARGIN, self._image.height - 18), footer, self._small, _PALE)
        return self._image

    def _panel(self, top: int, title: str, bars: Sequence[_Bar], longest: float) -> int:
        """Draw bars under a title; returns where the next thing goes."""
        self._write((_MARGIN, top + 24), title, self._font)
        top += _HEAD
        scale = (_WIDTH - _LEFT - _RIGHT) / max(longest, 1e-9)
        for bar in bars:
            self._write((_LEFT - 14, top + _BAR // 2), bar.name, self._font, anchor="rm", room=_LEFT - _MARGIN)
            end = self._pieces(top, bar, scale)
            self._write((end + 12, top + _BAR // 2), bar.said, self._font, anchor="lm", room=_WIDTH - end - 20)
            top += _STEP
        return top + 20

    def _pieces(self, top: int, bar: _Bar, scale: float) -> float:
        """Draw a bar; returns where it ends."""
        if bar.reach:
            self._pen.rectangle([_LEFT, top, _LEFT + bar.reach * scale, top + _BAR], fill=_EMPTY)
        across = float(_LEFT)
        for color, length in bar.pieces:
            if length > 0:
                wide = max(_LEAST_SHOWN, length * scale)
                self._pen.rectangle([across, top, across + wide, top + _BAR], fill=color)
                across += wide
        return max(across, _LEFT + bar.reach * scale)

    def _legend(self, top: int) -> int:
        used = [color for bar in self._times for color, _ in bar.pieces]
        named = {part_name(name): color for name, color in _PARTS.items() if color in used}
        if _WHOLE in used:
            named["a whole photo, of several in a row"] = _WHOLE
        across = float(_LEFT)
        for name, color in named.items():
            self._pen.rectangle([across, top - 18, across + 18, top], fill=color)
            self._write((across + 26, top - 9), name, self._font, anchor="lm")
            across += 26 + self._pen.textlength(name, font=self._font) + 28
        return top + 34

    def _write(
        self,
        at: tuple[float, float],
        text: str,
        font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
        fill: str = _INK,
        *,
        anchor: str = "ls",
        room: float = _WIDTH - 2 * _MARGIN,
    ) -> None:
        """Write a line, shortened to the room that it has."""
        line = sanitize(text)
        while len(line) > 1 and self._pen.textlength(line, font=font) > room:
            line = line[:-2] + "…"
        self._pen.text(at, line, fill=fill, font=font, anchor=anchor)
