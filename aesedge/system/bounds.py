"""Check options: that numbers are in their range, and that keywords exist."""

from __future__ import annotations

import dataclasses
import math
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_whole(option: str, value: Any, least: int, most: int, why: str = "") -> None:
    """Check that an option is an integer from ``least`` to ``most``; ``why`` explains the maximum in the message.

    Raises:
        UsageError: it is not.
    """
    if not _is(Integral, value):
        raise UsageError(f"{option} is {value!r}; it must be a whole number from {least} to {most}")
    if value < least:
        raise UsageError(f"{option} is {value}; it must be {least} or more")
    if value > most:
        raise UsageError(f"{option} is {value}; it must be at most {most}{why and f', {why}'}")


def check_real(option: str, value: Any, least: float, most: float, *, open_below: bool = False) -> None:
    """Check that an option is a finite number from ``least`` (excluded if ``open_below``) to ``most``.

    Raises:
        UsageError: it is not.
    """
    is_number = _is(Real, value) and math.isfinite(value)
    if is_number and (least < value if open_below else least <= value) and value <= most:
        return
    if open_below:
        raise UsageError(f"{option} is {value!r}; it must be above {least:g} and at most {most:g}")
    raise UsageError(f"{option} is {value!r}; it must be between {least:g} and {most:g}")


def check_type(option: str, value: Any, kinds: type | tuple[type, ...], what: str) -> None:
    """Check the type of an option.

    Args:
        option: its name, as messages call it.
        value: what was given.
        kinds: allowed types.
        what: they in words, after "it must be".

    Raises:
        UsageError: it is of another type.
    """
    if not isinstance(value, kinds):
        raise UsageError(f"{option} is {value!r}; it must be {what}")


def check_choice(option: str, value: Any, choices: Iterable[str]) -> None:
    """Check that an option is one of several words.

    Raises:
        UsageError: it is none of them.
    """
    if value not in (known := list(choices)):
        raise UsageError(f"{option} is {value!r}; it must be one of {', '.join(known)}")


def check_keywords(names: Iterable[str], options: type) -> None:
    """Check that keywords are fields of a dataclass of options.

    Raises:
        UsageError: one is not; the message names the one that was probably meant.
    """
    known = [field.name for field in dataclasses.fields(options)]
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the options are {', '.join(known)}"
            raise UsageError(f"unknown option: {name}; {hint}")


def _is(kind: type, value: Any) -> bool:
    """Return whether a value is such a number; True and False, which Python counts as integers, are not."""
    return isinstance(value, kind) and not isinstance(value, bool)
