"""The rules of a grammar with their repetitions written out, refused where llama.cpp could not stand them.

llama.cpp trusts its grammars. Some make it recurse until the stack is gone, or find itself without a way on, and
these end the process. Knows rules, not what they are written in.
"""

from __future__ import annotations

import itertools
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple

from aesedge.errors import UsageError
from aesedge.llm.gbnf import MAX_DEPTH, ROOT, SPACED_ROOT, Characters, Repeat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aesedge.llm.gbnf import Alternative

MAX_WAYS = 10_000  # in which one rule may begin; llama.cpp holds each as a stack, and compares all with all


class Slot(NamedTuple):
    """One element of an alternative: characters, or the name of a rule."""

    item: str | Characters
    slot_id: int
    """Which element of the short rules it is, or is a copy of."""


Expanded = dict[str, list[list[Slot]]]


class Rules:
    """Rules without repetitions: in full, as llama.cpp has them, and short, where copies stand for more copies.

    Every text is read by the short ones in at least as many ways as by the full ones, and every rule begins alike.

    Args:
        rules: as they were read.

    Raises:
        UsageError: nothing can be generated from them, or not without end.
    """

    def __init__(self, rules: Mapping[str, Sequence[Alternative]]) -> None:
        self.short: Expanded = {}
        self.full: Expanded = {}
        self._slot_ids = itertools.count()
        self._often: list[tuple[str, list[Slot]]] = []
        """What is repeated a number of times, and in which rule."""
        for name, alternatives in rules.items():
            expanded = [self._expand(name, alternative) for alternative in alternatives]
            self.short[name] = [short for short, _ in expanded]
            self.full[name] = [full for _, full in expanded]
        self._check_names()
        spaced = [Slot(Characters(((32, 32),)), next(self._slot_ids)), Slot(ROOT, next(self._slot_ids))]
        self.short[SPACED_ROOT] = self.full[SPACED_ROOT] = [spaced]
        self.n_slots = next(self._slot_ids)
        endless = self.short.keys() - self._ending(characters=True)
        if endless:
            raise UsageError(f"what the rule {shown(min(endless))!r} describes never ends; give it a way out")
        self.empty = self._ending(characters=False)
        """Those that can be nothing."""
        for name, symbol in self._often:  # nothing five hundred times is five hundred readings of nothing
            if all(item in self.empty for item, _ in symbol):
                raise UsageError(
                    f"the rule {shown(name)!r} repeats a number of times what may be nothing; make it something"
                )
        self.order = self._check_beginnings()
        """The names of the short ones, those that others begin with before these others."""

    def _expand(self, name: str, alternative: Alternative) -> tuple[list[Slot], list[Slot]]:
        short: list[Slot] = []
        full: list[Slot] = []
        for item in alternative:
            if isinstance(item, Repeat):
                more_short, more_full = self._repeated(name, item)
                short += more_short
                full += more_full
            else:
                slot = Slot(item, next(self._slot_ids))
                short.append(slot)
                full.append(slot)
        return short, full

    def _repeated(self, name: str, item: Repeat) -> tuple[list[Slot], list[Slot]]:
        n_more = 0 if item.most is None else item.most - item.least
        if item.least > 2 or n_more > 1:
            self._often.append((name, self._expand(name, list(item.symbol))[0]))
        copies = [self._expand(name, list(item.symbol)) for _ in range(min(item.least, 2))]
        short = [slot for copy, _ in copies for slot in copy]
        full = [slot for i in range(item.least) for slot in copies[min(i, 1)][1]]
        if item.most == item.least:
            if item.least > 2:  # the second copy stands for all that follow
                symbol, _ = self._expand(name, list(item.symbol))
                short.append(self._again(name, symbol, [], n_more=1)[0])
            return short, full
        again, full_again = self._again(
            name,
            *self._expand(name, list(item.symbol)),
            n_more=None if item.most is None else item.most - item.least,
        )
        return [*short, again], [*full, full_again]

    def _again(self, name: str, short: list[Slot], full: list[Slot], n_more: int | None) -> tuple[Slot, Slot]:
        """Make the rule of what may come again, and return what refers to it."""
        slot_id = next(self._slot_ids)
        repeated = f"{name}_again_{slot_id}"
        first, own = Slot(repeated, slot_id), Slot(repeated, next(self._slot_ids))
        self.short[repeated] = [[*short, own], []]
        if n_more is None:
            self.full[repeated] = [[*full, own], []]
            return first, first
        for i in range(n_more):
            more = [Slot(f"{repeated}_{i - 1}", slot_id)] if i else []
            self.full[f"{repeated}_{i}"] = [[*full, *more], []]
        return first, Slot(f"{repeated}_{n_more - 1}", slot_id)

    def _check_names(self) -> None:
        if ROOT not in self.short:
            raise UsageError(f"the grammar has no rule {ROOT!r}; that is the one which describes the answer")
        used = {slot.item for of_rule in self.short.values() for a in of_rule for slot in a}
        missing = {item for item in used if isinstance(item, str)} - self.short.keys()
        if missing:
            raise UsageError(f"the grammar uses rules that it does not have: {', '.join(sorted(missing))}")

    def _check_beginnings(self) -> list[str]:
        left = {name: list(self._beginnings(name)) for name in self.short}
        try:
            order = list(TopologicalSorter({name: set(first) for name, first in left.items()}).static_order())
        except CycleError as error:
            circle = " -> ".join(dict.fromkeys(shown(name) for name in error.args[1]))
            raise UsageError(
                f"left recursion: the rule {circle} can begin with itself; put what it repeats first, or use *"
            ) from None
        ways: dict[str, int] = {}
        depth: dict[str, int] = {}
        for name in order:
            ways[name] = len(self.short[name]) + sum(ways[first] for first in left[name])
            depth[name] = 1 + max((depth[first] for first in left[name]), default=0)
            if ways[name] > MAX_WAYS or depth[name] > 2 * MAX_DEPTH:
                raise UsageError(
                    f"the rule {shown(name)!r} can begin in more than {MAX_WAYS} ways, or through more than "
                    f"{2 * MAX_DEPTH} others; offer fewer choices at once"
                )
        return order

    def _beginnings(self, name: str) -> Iterator[str]:
        """Yield every rule with which a rule can begin, but for what comes again after nothing: llama.cpp notices."""
        for alternative in self.short[name]:
            for item, _ in alternative:
                if not isinstance(item, str) or (item == name and "_again_" in name):
                    break
                yield item
                if item not in self.empty:
                    break

    def _ending(self, *, characters: bool) -> set[str]:
        """Return the rules that can come to an end: at all, or without a character."""
        users: dict[str, list[tuple[str, int]]] = {}
        open_items: dict[tuple[str, int], int] = {}
        ready: list[str] = []
        for name, alternatives in self.short.items():
            for i, alternative in enumerate(alternatives):
                names = [item for item, _ in alternative if isinstance(item, str)]
                if not characters and len(names) < len(alternative):
                    continue
                open_items[name, i] = len(names)
                for item in names:
                    users.setdefault(item, []).append((name, i))
                if not names:
                    ready.append(name)
        found: set[str] = set()
        while ready:
            name = ready.pop()
            if name not in found:
                found.add(name)
                for user in users.get(name, []):
                    open_items[user] -= 1
                    if not open_items[user]:
                        ready.append(user[0])
        return found


def shown(name: str) -> str:
    """Return the name of the rule that a group or a repetition is in."""
    return name.split("_", 1)[0]
