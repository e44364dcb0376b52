"""Make untrusted text safe to show: file names, manifests, errors, generated text."""

from __future__ import annotations

import re

_HIDDEN = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # reorder text, or are not seen
    "\ud800-\udfff"  # bytes of a name that is not UTF-8, as Python holds them
    "\U000e0000-\U000e0fff"
)
UNSAFE = re.compile(f"[\x00-\x1f\x7f-\x9f{_HIDDEN}]")
"""Characters that steer a terminal, end a line, reorder what is read, or cannot be encoded."""
_UNSAFE_BUT_LINES = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_HIDDEN}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def sanitize(text: str, *, lines: bool = False) -> str:
    r"""Return text on one line with control characters escaped (``\n``, ``\x1b``), so that it cannot steer a terminal.

    Bytes of a file name that are not UTF-8 become ``\xe9``. Other text, in any script, is unchanged.

    Args:
        text: any text.
        lines: whether newlines and tabs stay, for text of several lines.
    """
    if text.isprintable():
        return text
    if lines:
        return _UNSAFE_BUT_LINES.sub(_escaped, text.replace("\r\n", "\n"))
    return UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # the byte that os.fsdecode could not decode
        code -= 0xDC00
    if code < 0x100:
        return _SHORT.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
