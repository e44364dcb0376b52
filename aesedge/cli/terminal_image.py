"""Print a photo where the terminal can show pictures: sixel, or kitty's protocol."""

from __future__ import annotations

import contextlib
import sys

from aesedge.cli.terminal import takes_escapes
from aesedge.errors import AesedgeError

_SIDE = 800
_COLUMNS = 48


def print_picture(photo: str) -> None:
    """Print a photo; nothing where the terminal cannot show it, or the extra ``show`` is missing.

    The terminal is asked, and answers on stdin. iTerm, WezTerm, foot and others take sixel.
    """
    if not takes_escapes(sys.stdout) or not sys.stdin.isatty():
        return
    try:
        from rich.console import Console
        from textual_image import renderable
    except ImportError:
        return
    if renderable.Image not in {renderable.SixelImage, renderable.TGPImage}:
        return
    from aesedge.image import read_image

    # A terminal that does not know its size makes the library divide by zero; the text comes without a picture then.
    with contextlib.suppress(AesedgeError, OSError, ArithmeticError, ValueError):
        image = read_image(photo, size_hint=_SIDE)
        image.thumbnail((_SIDE, _SIDE))
        Console().print(renderable.Image(image, width=_COLUMNS, height="auto"))
