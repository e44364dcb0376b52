"""What llama.cpp's grammar sampler will have to do for a piece of text, bounded before it begins; knows rules alone.

It tries every reading of a piece on its own, also where two of them are the same from some character on. So a
grammar that can read a text in two ways at every character doubles its work with every character, in one call that
nothing can stop. Here the work is bounded for the worst text of each length, from every element of the rules. Who
continues after the end of a rule is not known here; the worst of those that can is taken.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aesedge.errors import UsageError
from aesedge.llm.grammar_rules import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aesedge.llm.gbnf import Characters
    from aesedge.llm.grammar_rules import Rules, Slot

MAX_LENGTH = 16
"""Of a piece in characters; hardly any vocabulary has longer ones, and those are left out where cost matters."""
_MAX_CLASSES = 256
_MAX_NUMBERS = 2_000_000  # in one table, for the memory's sake
_ENOUGH = 1e12  # beyond it, it does not matter how much more it is

_Row = npt.NDArray[np.float64]


class Cost:
    """Bounds for one grammar.

    Raises:
        UsageError: there is none, because what may follow grows with the depth of the text.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        slots = [slot for of_rule in rules.short.values() for a in of_rule for slot in a]
        found = {slot.item for slot in slots if not isinstance(slot.item, str)}
        edges = sorted({edge for item in found for low, high in item.ranges for edge in (low, high + 1)} | {0})
        most = min(_MAX_CLASSES, max(8, _MAX_NUMBERS // rules.n_slots))
        self._edges = edges[:: -(-len(edges) // most)]  # wider classes only make the bounds wider
        self._masks = np.zeros((rules.n_slots, len(self._edges)), bool)
        """Which classes each element allows, none for a rule."""
        for slot in slots:
            if not isinstance(slot.item, str):
                self._masks[slot.slot_id] = self._mask(slot.item)
        self._look_around()
        nothing = np.zeros((2, rules.n_slots))
        n_opened = self._after(nothing)[:, 0, -1]
        """For each element, the alternatives that are opened to find what follows it."""
        node = 1 + n_opened
        base = self._after(np.stack([node, nothing[0]]))[:, 0, -2]
        work = np.stack([base + node, nothing[0] + 1])
        self._work = [work]  # for one character, two, ...; [2, n_slots]: steps, readings
        for _ in range(1, MAX_LENGTH):
            longer = self._after(np.minimum(self._work[-1], _ENOUGH))[:, :, :-2].max(axis=2)
            self._work.append(np.minimum(longer.T + work, _ENOUGH))

    def _mask(self, item: Characters) -> npt.NDArray[np.bool_]:
        mask = np.zeros(len(self._edges), bool)
        for low, high in item.ranges:
            mask[bisect.bisect_right(self._edges, low) - 1 : bisect.bisect_right(self._edges, high)] = True
        return mask

    def of(self, slot_ids: Sequence[int], n_characters: int) -> tuple[float, float]:
        """Return bounds for a piece of so many characters where these elements are next: steps, and readings."""
        if n_characters > MAX_LENGTH:
            return np.inf, np.inf
        work = self._work[n_characters - 1]
        ids, counts = np.unique(np.asarray(slot_ids, np.int64), return_counts=True)
        total = (work[:, ids] * counts) @ self._masks[ids]
        steps, readings = total.max(axis=1)
        return float(steps) + len(slot_ids), float(readings)

    def _look_around(self) -> None:
        """Note what stands where, once for all sums."""
        self._pairs: list[tuple[int, int]] = []
        """Elements, and the character that comes next."""
        self._before_rules: list[tuple[int, Slot]] = []
        """Elements, and the rule that comes next, from the ends of alternatives to their beginnings."""
        self._ends: list[tuple[int, str]] = []
        """Elements after which a rule may be over, and that rule."""
        self._calls: list[tuple[int, str]] = []
        for name, alternatives in self._rules.short.items():
            for alternative in alternatives:
                may_end, following = True, None
                for slot in reversed(alternative):
                    if may_end:
                        self._ends.append((slot.slot_id, name))
                    if following is not None and isinstance(following.item, str):
                        self._before_rules.append((slot.slot_id, following))
                    elif following is not None:
                        self._pairs.append((slot.slot_id, following.slot_id))
                    if isinstance(slot.item, str):
                        self._calls.append((slot.slot_id, slot.item))
                    may_end, following = may_end and slot.item in self._rules.empty, slot

    def _after(self, weights: _Row) -> _Row:
        """Return the sum of the weights of what can follow each element, over the classes of characters.

        Args:
            weights: of the elements that are characters, float64 [2, n_slots].

        Returns:
            float64 [n_slots, 2, n_classes + 2]; behind the classes: the sum whatever the character, and the number of
            alternatives that are opened on the way.
        """
        rules, n = self._rules, len(self._edges)
        begins: dict[str, _Row] = {}
        for name in rules.order:
            begins[name] = np.zeros((2, n + 2))  # where it begins with itself after nothing, that adds nothing
            begins[name] = self._beginning(rules.short[name], weights, begins)
        found = np.zeros((rules.n_slots, 2, n + 2))
        if self._pairs:
            here, following = np.array(self._pairs).T
            found[here, :, :n] = self._masks[following, None] * weights[:, following].T[:, :, None]
            found[here, :, n] = weights[:, following].T
        for slot_id, (item, rule_slot) in self._before_rules:
            found[slot_id] = begins[str(item)] + (found[rule_slot] if item in rules.empty else 0)
        self._return(found)
        return found

    def _beginning(self, alternatives: Sequence[Sequence[Slot]], weights: _Row, begins: Mapping[str, _Row]) -> _Row:
        """Return the same sum for what alternatives begin with."""
        n = len(self._edges)
        row = np.zeros((2, n + 2))
        row[:, n + 1] = len(alternatives)
        characters: list[int] = []
        for alternative in alternatives:
            for item, slot_id in alternative:
                if not isinstance(item, str):
                    characters.append(slot_id)
                    break
                row += begins[item]
                if item not in self._rules.empty:
                    break
        row[:, :n] += weights[:, characters] @ self._masks[characters]
        row[:, n] += weights[:, characters].sum(axis=1)
        return row

    def _return(self, found: _Row) -> None:
        """Add what follows after the end of a rule: the worst of what follows those that refer to it."""
        after = {name: np.zeros(found.shape[1:]) for name in self._rules.short}
        end_of = dict(self._ends)
        for _ in range(len(after) + 2):
            is_stable = True
            for slot_id, name in self._calls:
                outer = end_of.get(slot_id)
                row = found[slot_id] if outer is None else found[slot_id] + after[outer]
                if (row > after[name]).any():
                    after[name] = np.maximum(after[name], row)
                    is_stable = False
            if is_stable:
                break
        else:
            culprit = shown(max(after, key=lambda name: float(after[name].max())))
            raise UsageError(
                f"the rule {culprit!r} contains itself and may be followed by nothing there, so that its end could "
                "mean every depth at once; put something that must come after it, or take away what may"
            )
        for slot_id, name in self._ends:
            found[slot_id] += after[name]
