"""Read Llama's tokenizer from transformers' ``tokenizer.json``: the pieces and scores that llama.cpp needs.

A sentencepiece BPE merges the neighbours whose joint piece has the highest score, so a list of merges stands for an
order of pieces. That is only so if the list holds every way to put a piece together, which is checked: then llama.cpp
splits text as the library ``tokenizers`` does.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gguf import TokenType

from aesedge.errors import CheckpointError

from .json_file import read_json_object
from .tokenizer_model import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SPACE = "\u2581"
_BYTES = [f"<0x{value:02X}>" for value in range(256)]
_LAST = -1e9  # score of runs of spaces in Llama's own tokenizer.model, where they are merged after everything else


def read_tokenizer_json(path: Path) -> Pieces:
    """Read the pieces of a Llama tokenizer.

    Raises:
        CheckpointError: it is damaged, or not of Llama's kind, so that llama.cpp would split text differently.
    """
    try:
        return _pieces(path, read_json_object(path))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path}: not a tokenizer ({reason}); download it again") from None


def open_tokenizer_json(path: Path) -> Callable[[str], list[int]]:
    """Return the way of the library ``tokenizers`` from a text to its ids, without BOS.

    Special tokens in the text are spelled out and a space is put in front of it, as the sentencepiece model does on
    which LLaVA was trained; newer versions of the file leave the space out where the text begins with one.
    """
    from tokenizers import Tokenizer

    model = read_json_object(path)["model"]
    normalizers = [
        {"type": "Prepend", "prepend": _SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
    ]
    plain = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": model,
    }
    tokenizer = Tokenizer.from_str(json.dumps(plain))
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _pieces(path: Path, file: dict[str, Any]) -> Pieces:
    _check_kind(path, file)
    model = file["model"]
    ids: dict[str, int] = model["vocab"]
    texts = sorted(ids, key=lambda text: ids[text])
    if [ids[text] for text in texts] != list(range(len(texts))):
        raise CheckpointError(f"{path}: the ids of its tokens have gaps; download it again")
    types = dict.fromkeys(texts, TokenType.NORMAL)
    types |= dict.fromkeys(_BYTES, TokenType.BYTE)
    for added in file.get("added_tokens") or []:
        if added["content"] in types:
            types[added["content"]] = TokenType.CONTROL if added.get("special", True) else TokenType.USER_DEFINED
    types[model["unk_token"]] = TokenType.UNKNOWN
    normal = [text for text in texts if types[text] == TokenType.NORMAL]
    scores = dict.fromkeys(texts, 0.0) | _scores(path, ids, normal, [_pair(merge) for merge in model["merges"]])
    return Pieces(
        texts,
        [scores[text] for text in texts],
        [int(types[text]) for text in texts],
        bos=ids.get("<s>", -1),
        eos=ids.get("</s>", -1),
        unk=ids[model["unk_token"]],
    )


def _check_kind(path: Path, file: dict[str, Any]) -> None:
    """Refuse tokenizers that are no sentencepiece BPE with byte fallback and a space in front."""
    model = file.get("model") or {}
    kind = model.get("type", "BPE" if "merges" in model else None)
    refused = ""
    if kind != "BPE" or not model.get("byte_fallback"):
        refused = f"a '{kind}' tokenizer" + ("" if model.get("byte_fallback") else " without byte fallback")
    elif model.get("unk_token") not in model["vocab"] or not model["vocab"].keys() >= set(_BYTES):
        refused = "a tokenizer without tokens for unknown text and single bytes"
    elif any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "ignore_merges")):
        refused = "a tokenizer that marks the ends of words"
    elif not _spaces_as_llama(file.get("normalizer"), file.get("pre_tokenizer")):
        refused = "a tokenizer that does more or less than to put a space in front of a text"
    if refused:
        raise CheckpointError(f"{path}: {refused}, not Llama's; llama.cpp would split text differently")


def _spaces_as_llama(normalizer: dict[str, Any] | None, splitter: dict[str, Any] | None) -> bool:
    """Return whether text is only prefixed with a space and its spaces made visible; files state this in two ways."""
    if splitter is not None:
        metaspace = splitter.get("type") == "Metaspace" and splitter.get("replacement") == _SPACE
        first = splitter.get("prepend_scheme", "always" if splitter.get("add_prefix_space") else "never") != "never"
        return normalizer is None and metaspace and first and splitter.get("split") is False
    steps = (normalizer or {}).get("normalizers", [])
    return [(step.get("type"), step.get("prepend"), step.get("pattern"), step.get("content")) for step in steps] == [
        ("Prepend", _SPACE, None, None),
        ("Replace", None, {"String": " "}, _SPACE),
    ]


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """Return the two halves; older versions of the file join them by a space, which no piece contains."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _scores(path: Path, ids: dict[str, int], normal: list[str], merges: list[tuple[str, str]]) -> dict[str, float]:
    """Return a score for each normal piece, so that those that are merged first have the higher ones."""
    ranks: dict[str, list[int]] = {}
    for rank, (left, right) in enumerate(merges):
        if not ids.keys() >= {left, right, left + right}:
            raise CheckpointError(f"{path}: merges '{left}' and '{right}', which are no tokens; download it again")
        ranks.setdefault(left + right, []).append(rank)
    _check_complete(path, ids, normal, merges)
    merged = sorted((text for text in normal if text in ranks), key=lambda text: ranks[text][0])
    runs = [] if _in_order(merged, ranks) else _runs_of_spaces(merged, merges)
    ordered = [text for text in merged if text not in set(runs)]
    if not _in_order(ordered, ranks):
        raise CheckpointError(
            f"{path}: its merges are in no order of pieces, as sentencepiece's are; llama.cpp would split text "
            "differently, use a tokenizer.model"
        )
    if [ids[text] for text in ordered] == sorted(ids[text] for text in ordered):
        scores = {text: -float(ids[text] - ids[normal[0]]) for text in normal}  # sentencepiece's own
    else:
        # Pieces that nothing is merged to, the single characters, come last.
        rest = [text for text in normal if text not in ranks]
        scores = {text: -float(place) for place, text in enumerate([*ordered, *rest])}
    return scores | dict.fromkeys([*runs, _SPACE] if runs else [], _LAST)


def _in_order(merged: list[str], ranks: dict[str, list[int]]) -> bool:
    """Return whether all merges to one piece come before all merges to the next."""
    return all(ranks[one][-1] < ranks[after][0] for one, after in pairwise(merged))


def _runs_of_spaces(merged: list[str], merges: list[tuple[str, str]]) -> list[str]:
    """Return the runs of spaces, where they have equal scores as in Llama's tokenizer: all last, and from the left.

    They are made from the left if a run grows before another begins, and can grow space by space.
    """
    runs = [text for text in merged if not text.strip(_SPACE)]
    n_merges = sum(not (left + right).strip(_SPACE) for left, right in merges)
    all_last = not any((left + right).strip(_SPACE) for left, right in merges[len(merges) - n_merges :])
    by_one = sorted(map(len, runs)) == list(range(2, len(runs) + 2))
    return runs if runs and all_last and by_one and merges[-1] == (_SPACE, _SPACE) else []


def _check_complete(path: Path, ids: dict[str, int], normal: list[str], merges: list[tuple[str, str]]) -> None:
    """Check that every way to put a piece together is in the list: sentencepiece and llama.cpp know no list."""
    listed = set(merges)
    for text in normal:
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            # A single character is a part of the text whether it has a token or not.
            reached = (cut == 1 or left in ids) and (cut == len(text) - 1 or right in ids)
            if reached and (left, right) not in listed:
                raise CheckpointError(
                    f"{path}: lists no merge of '{left}' and '{right}' though '{text}' is a token; llama.cpp would "
                    "split text differently, use a tokenizer.model"
                )
