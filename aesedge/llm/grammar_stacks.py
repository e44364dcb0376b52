"""Where in a grammar an answer can be, in all its readings: what llama.cpp will hold, counted before it does.

llama.cpp keeps a stack for every reading and compares all with all, in one call that nothing can stop. The same
stacks are followed here, shared where they are equal, and an answer ends where they become too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.llm.gbnf import Characters
from aesedge.llm.grammar_cost import Cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aesedge.llm.grammar_rules import Rules

MAX_STACKS = 2000
MAX_STEPS = 5_000_000  # elements of stacks that llama.cpp copies and compares for one character, a few ns each
_MAX_FORCED_BYTES = 4096  # at once
_EMPTY = 0  # the stack of an answer that may end


class Elements:
    """A grammar's rules as llama.cpp has them: elements in a row, each alternative closed by None."""

    def __init__(self, rules: Rules) -> None:
        self.items: list[Characters | str | None] = []
        self.slot_ids: list[int] = []
        self.starts: dict[str, list[int]] = {}
        self.cost = Cost(rules)
        for name, alternatives in rules.full.items():
            self.starts[name] = []
            for alternative in alternatives:
                self.starts[name].append(len(self.items))
                self.items += [*(slot.item for slot in alternative), None]
                self.slot_ids += [*(slot.slot_id for slot in alternative), -1]

    def __len__(self) -> int:
        return len(self.items)


class Stacks:
    """The readings of one answer.

    Args:
        elements: of the grammar.
        root: the rule to begin with.
    """

    def __init__(self, elements: Elements, root: str) -> None:
        self.elements = elements
        self._positions = [-1]
        self._rests = [_EMPTY]
        self._depths = [0]
        self._ids: dict[tuple[int, int], int] = {}
        self.now: frozenset[int] = frozenset()
        self.now = self._open(self._push(start, _EMPTY) for start in elements.starts[root])

    def after(self, stacks: frozenset[int], character: int) -> frozenset[int]:
        """Return the stacks after a character, which are none if it is not allowed.

        Raises:
            UsageError: they are too many.
        """
        return self._open(
            self._push(self._positions[stack] + 1, self._rests[stack])
            for stack in stacks
            if stack != _EMPTY and self._allows(stack, character)
        )

    def _allows(self, stack: int, character: int) -> bool:
        item = self.elements.items[self._positions[stack]]
        return isinstance(item, Characters) and any(low <= character <= high for low, high in item.ranges)

    def cost(self, stacks: frozenset[int], n_characters: int) -> tuple[float, float]:
        """Return bounds for trying a piece of so many characters: elements of stacks to copy, and readings."""
        slot_ids = [self.elements.slot_ids[self._positions[stack]] for stack in stacks if stack != _EMPTY]
        steps, readings = self.elements.cost.of(slot_ids, n_characters)
        deepest = max((self._depths[stack] for stack in stacks), default=0)
        return steps * (deepest + n_characters), readings

    def n_copied(self, stacks: frozenset[int]) -> int:
        """Return how many elements the stacks have together."""
        return sum(self._depths[stack] for stack in stacks)

    def forced(self, stacks: frozenset[int], half_character: bytes) -> tuple[bytes, bool]:
        """Return the text that must come next, in UTF-8, and whether nothing may come after it.

        Args:
            stacks: where the answer is.
            half_character: the first bytes of a character that is not whole yet.
        """
        text = b""
        while len(text) < _MAX_FORCED_BYTES:
            character = self._only_character(stacks, half_character)
            if character is None:
                return text, not half_character and not self._goes_on(stacks)
            text += chr(character).encode()[len(half_character) :]
            half_character = b""
            stacks = self.after(stacks, character)
        return text, False

    def _goes_on(self, stacks: frozenset[int]) -> bool:
        return any(low <= high for low, high in self._next(stacks, b""))

    def _only_character(self, stacks: frozenset[int], half_character: bytes) -> int | None:
        """Return the character that must come, or None where there are several or none, or the answer may end."""
        ranges = set(self._next(stacks, half_character))
        low, high = next(iter(ranges)) if len(ranges) == 1 else (0, 1)
        return low if low == high and _EMPTY not in stacks else None

    def _next(self, stacks: frozenset[int], half_character: bytes) -> Iterator[tuple[int, int]]:
        """Yield the ranges of characters that may come and begin so, first and last."""
        bounds = _characters_beginning(half_character)
        for stack in stacks:
            item = None if stack == _EMPTY else self.elements.items[self._positions[stack]]
            for low, high in item.ranges if isinstance(item, Characters) else ():
                for first, last in bounds:
                    if max(low, first) <= min(high, last):
                        yield max(low, first), min(high, last)

    def _push(self, position: int, rest: int) -> int:
        """Return the stack of one more element; what ends right there is not pushed."""
        if self.elements.items[position] is None:
            return rest
        key = (position, rest)
        if key not in self._ids:
            self._ids[key] = len(self._positions)
            self._positions.append(position)
            self._rests.append(rest)
            self._depths.append(self._depths[rest] + 1)
        return self._ids[key]

    def _open(self, stacks: Iterable[int]) -> frozenset[int]:
        """Open rules until each stack has characters on top, or nothing."""
        found: set[int] = set()
        n_steps = 0
        for stack in stacks:  # one after the other, as llama.cpp does: what two of them lead to is opened twice
            todo, seen = [stack], {stack}
            while todo:
                top = todo.pop()
                item = None if top == _EMPTY else self.elements.items[self._positions[top]]
                n_steps += 1 + self._depths[top]
                if isinstance(item, str):
                    rest = self._push(self._positions[top] + 1, self._rests[top])
                    opened = {self._push(start, rest) for start in self.elements.starts[item]} - seen
                    seen |= opened
                    todo += opened
                else:
                    n_steps += len(found) * (1 + self._depths[top] // 8)  # it is compared with all the others
                    found.add(top)
                if len(found) > MAX_STACKS or n_steps > MAX_STEPS:
                    raise too_ambiguous()
        return frozenset(found)


def too_ambiguous() -> UsageError:
    """Return the error of a grammar that would keep llama.cpp busy for too long."""
    return UsageError("the grammar is too ambiguous: the same text can be read in too many ways; simplify it")


def _characters_beginning(half_character: bytes) -> tuple[tuple[int, int], ...]:
    """Return the ranges of the characters whose UTF-8 begins with these bytes."""
    if not half_character:
        return ((1, 0xD7FF), (0xE000, 0x10FFFF))
    first = half_character[0]
    n_bytes = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    value = first & (0x7F >> n_bytes)
    for byte in half_character[1:]:
        value = value << 6 | byte & 0x3F
    n_bits = 6 * (n_bytes - len(half_character))
    least = (0x80, 0x800, 0x10000)[n_bytes - 2]
    return ((max(value << n_bits, least), min((value + 1 << n_bits) - 1, 0x10FFFF)),)
