"""Tell mmproj and language model files apart by their headers, and check that they belong together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.errors import CheckpointError, UsageError

from ..language.gguf_reading import open_gguf
from .mmproj import Mmproj, read_mmproj

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..language.gguf_reading import GgufFile

_MMPROJ, _LLAMA = "clip", "llama"
# What has to be equal in two quantizations of one model.
_SAME = ("block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length")


@dataclass(frozen=True)
class GgufPair:
    """A LLaVA-1.5 as llama.cpp runs it."""

    mmproj: Mmproj
    llms: dict[str, GgufFile]
    """Quantization type to the language model in it, in the order in which they were given."""

    @property
    def n_ctx_train(self) -> int:
        """How many positions the language model was trained with."""
        return int(next(iter(self.llms.values())).get(f"{_LLAMA}.context_length", int))

    @property
    def license(self) -> str:
        """What the language model's file says of its licence; empty if it says nothing."""
        return str(next(iter(self.llms.values())).get("general.license", str, ""))


def read_pair(paths: Sequence[Path]) -> GgufPair:
    """Read the headers of an mmproj file and of a language model, or of several types of one, in any order.

    Raises:
        UsageError: there is not one mmproj and at least one language model.
        CheckpointError: a file is damaged, of another kind of model, or does not belong to the others.
    """
    files = [open_gguf(path) for path in paths]
    for file in files:
        if file.architecture not in {_MMPROJ, _LLAMA}:
            raise CheckpointError(
                f"{file.path}: holds the architecture {file.architecture!r}; a LLaVA-1.5 is a Llama and an mmproj "
                "('clip'), only those can be imported"
            )
    mmprojs = [file for file in files if file.architecture == _MMPROJ]
    llms = [file for file in files if file.architecture == _LLAMA]
    _check_numbers(mmprojs, llms)
    mmproj = read_mmproj(mmprojs[0])
    by_type: dict[str, GgufFile] = {}
    for llm in llms:
        _check_llm(llm, llms[0], mmproj)
        kind = file_type(llm)
        if kind in by_type:
            raise UsageError(f"{llm.path}: is {kind} as {by_type[kind].path} is; give one file of each type")
        by_type[kind] = llm
    return GgufPair(mmproj, by_type)


def _check_numbers(mmprojs: Sequence[GgufFile], llms: Sequence[GgufFile]) -> None:
    if not mmprojs:
        raise UsageError(
            f"{llms[0].path if llms else 'import'}: no mmproj file was given, so the model cannot see; give the file "
            "that llama.cpp takes as --mmproj too"
        )
    if len(mmprojs) > 1:
        raise UsageError(f"{mmprojs[1].path}: a second mmproj file; give one, and the language model that it is for")
    if not llms:
        raise UsageError(f"{mmprojs[0].path}: is the mmproj; give the language model that it is for too")


def _check_llm(llm: GgufFile, first: GgufFile, mmproj: Mmproj) -> None:
    """Refuse a language model that the runtime cannot run with this mmproj."""
    if "token_embd.weight" not in llm.tensors:
        raise CheckpointError(f"{llm.path}: has no weights, only a vocabulary; give the whole model")
    vocabulary = llm.get("tokenizer.ggml.model", str)
    if vocabulary != _LLAMA:
        raise CheckpointError(
            f"{llm.path}: has the vocabulary {vocabulary!r}; a LLaVA-1.5 has Vicuna's ('{_LLAMA}'), the prompts are "
            "written for it"
        )
    for key in _SAME:
        values = [file.values.get(f"{_LLAMA}.{key}") for file in (first, llm)]
        if values[0] != values[1]:
            raise CheckpointError(
                f"{llm.path}: is another model than {first.path}: {key} is {values[1]} and {values[0]}; give several "
                "quantization types of one model only"
            )
    width, n_embd = llm.get(f"{_LLAMA}.embedding_length", int), mmproj.trained.n_embd
    if width != n_embd:
        raise CheckpointError(
            f"{mmproj.file.path}: makes image embeddings {n_embd} wide, {llm.path} reads {width}; use the two files "
            "as they were published together"
        )


def file_type(file: GgufFile) -> str:
    """Return a language model's quantization type: what its header says, else the type of most of its weights."""
    import gguf

    stated = file.get("general.file_type", int, -1)
    if stated in list(gguf.LlamaFileType) and stated != gguf.LlamaFileType.GUESSED:
        return str(gguf.LlamaFileType(stated).name).removeprefix("MOSTLY_").removeprefix("ALL_")
    return weight_type(file)


def weight_type(file: GgufFile) -> str:
    """Return the type in which most of a file's weights are stored."""
    counted: Counter[str] = Counter()
    for tensor in file.tensors.values():
        counted[tensor.tensor_type.name] += int(tensor.n_elements)
    return counted.most_common(1)[0][0]
