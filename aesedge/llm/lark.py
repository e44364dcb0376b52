"""Write a grammar's rules in Lark notation for llguidance.

llguidance's own converter of GBNF is not used: it makes a lexeme of each literal, and lexemes are matched as long as
they can be, so that ``("a" | "ab") "bc"`` would refuse "abc". Here a grammar without recursion becomes one regular
expression, and any other is parsed character by character.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.llm.gbnf import MAX_FORCED, ROOT, Characters, Repeat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aesedge.llm.gbnf import Item, Rules

_MAX_DEPTH = 400  # llguidance recurses
_NEVER = math.inf


def write_lark(rules: Rules, *, by_character: bool = False) -> str:
    """Return a grammar of one space and then the rule ``root``.

    Args:
        rules: of the grammar.
        by_character: whether it is parsed character by character even if it could be a regular expression.

    Raises:
        UsageError: rules are missing or nested too deeply, or there is no text that ends, or none of a usual length.
    """
    used = _used(rules)
    shortest = _shortest({name: rules[name] for name in used})
    if shortest[ROOT] == _NEVER:
        raise UsageError(f"the grammar allows no text that ends: the rule {ROOT!r} never ends")
    live = {
        name: [alternative for alternative in rules[name] if _least(alternative, shortest) < _NEVER] for name in used
    }
    live = {name: alternatives for name, alternatives in live.items() if alternatives}
    longest = max(_least(alternative, shortest) for of_rule in live.values() for alternative in of_rule)
    if longest > MAX_FORCED:
        raise UsageError(f"the grammar is too large: a part of it has more than {MAX_FORCED} characters at least")
    # Upper case makes terminals, which are regular expressions; lower case makes rules.
    letter = "r" if by_character or not _is_regular(live) else "T"
    names = {name: f"{letter}{i}" for i, name in enumerate(live)}
    lines = [f'start: " " {names[ROOT]}']
    for name, alternatives in live.items():
        texts = [" ".join(_written(alternative, names, joined=letter == "T")) or '""' for alternative in alternatives]
        lines.append(f"{names[name]}: {' | '.join(dict.fromkeys(texts))}")
    return "\n".join(lines) + "\n"


def _used(rules: Rules) -> list[str]:
    """Return the rules that ``root`` leads to, itself first."""
    if ROOT not in rules:
        raise UsageError(f"the grammar has no rule {ROOT!r}; that is the one which describes the answer")
    found, missing, left = {ROOT: None}, set(), [ROOT]
    while left:
        for name in _names(item for alternative in rules[left.pop()] for item in alternative):
            if name not in rules:
                missing.add(name)
            elif name not in found:
                found[name] = None
                left.append(name)
    if missing:
        raise UsageError(f"the grammar uses rules that it does not have: {', '.join(sorted(missing))}")
    return list(found)


def _names(items: Iterable[Item]) -> Iterator[str]:
    for item in items:
        if isinstance(item, Repeat):
            yield from _names(item.symbol)
        elif isinstance(item, str):
            yield item


def _shortest(rules: Rules) -> dict[str, float]:
    """Return how many characters each rule has at least; infinity if it never ends."""
    found: dict[str, float] = dict.fromkeys(rules, _NEVER)
    users: dict[str, set[str]] = defaultdict(set)
    for name, alternatives in rules.items():
        for used in _names(item for alternative in alternatives for item in alternative):
            users[used].add(name)
    waiting = dict.fromkeys(reversed(rules))
    queue = deque(waiting)
    while queue:
        name = queue.popleft()
        del waiting[name]
        n = min(_least(alternative, found) for alternative in rules[name])
        if n < found[name]:
            found[name] = n
            more = [user for user in users[name] if user not in waiting]
            waiting.update(dict.fromkeys(more))
            queue.extend(more)
    return found


def _least(items: Iterable[Item], shortest: Mapping[str, float]) -> float:
    n = 0.0
    for item in items:
        if isinstance(item, Repeat):
            n += item.least * _least(item.symbol, shortest) if item.least else 0
        elif isinstance(item, str):
            n += shortest.get(item, _NEVER)
        else:
            n += 1 if item.ranges else _NEVER
    return n


def _is_regular(rules: Rules) -> bool:
    """Return whether no rule leads to itself.

    Raises:
        UsageError: rules lead to rules too often; llguidance would use up the stack.
    """
    graph = {name: set(_names(item for items in of_rule for item in items)) for name, of_rule in rules.items()}
    try:
        order, is_regular = list(TopologicalSorter(graph).static_order()), True
    except CycleError:
        order, is_regular = list(rules), False
    depth: dict[str, int] = {}
    for name in order if is_regular else _depth_first(graph):
        depth[name] = 1 + max((depth.get(used, 0) for used in graph.get(name, ())), default=0)
    if max(depth.values()) > _MAX_DEPTH:
        raise UsageError(f"the grammar has more than {_MAX_DEPTH} rules or groups inside each other")
    return is_regular


def _depth_first(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield every rule after those that it leads to, circles left out."""
    seen, stack = {ROOT}, [(ROOT, iter(graph[ROOT]))]
    while stack:
        name, rest = stack[-1]
        found = next((used for used in rest if used not in seen), None)
        if found is None:
            stack.pop()
            yield name
        else:
            seen.add(found)
            stack.append((found, iter(graph.get(found, ()))))


def _written(items: Iterable[Item], names: Mapping[str, str], *, joined: bool) -> Iterator[str]:
    """Yield the items of a sequence; single characters in a row as one literal if they may be joined."""
    for literal, group in groupby(items, lambda item: joined and _is_plain(item)):
        if literal:
            text = "".join(chr(item.ranges[0][0]) for item in group if isinstance(item, Characters))
            yield json.dumps(text, ensure_ascii=False)
            continue
        for item in group:
            if isinstance(item, Repeat):
                yield _repeated(item, names, joined=joined)
            elif isinstance(item, str):
                yield names[item]
            else:
                yield _choice(item)


def _is_plain(item: Item) -> bool:
    if not isinstance(item, Characters) or len(item.ranges) != 1:
        return False
    low, high = item.ranges[0]
    return low == high and chr(low).isprintable()


def _repeated(item: Repeat, names: Mapping[str, str], *, joined: bool) -> str:
    if item.most == 0 or not all(name in names for name in _names(item.symbol)):
        return '""'  # of what never ends there may be none
    bounds = f"{item.least},{'' if item.most is None else item.most}"
    return f"({' '.join(_written(item.symbol, names, joined=joined))}){{{bounds}}}"


def _choice(item: Characters) -> str:
    """Return a class of characters as a regular expression."""
    ranges = [f"\\x{{{low:x}}}-\\x{{{high:x}}}" for low, high in item.ranges]
    return f"/[{''.join(ranges)}]/"
