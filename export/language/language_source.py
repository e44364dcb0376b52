"""What a language model is read from, whatever its format."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import gguf
    import numpy as np
    import numpy.typing as npt

    Rows = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]


class LanguageSource(Protocol):
    """Where a language model comes from: its tensors under llama.cpp's names, read by rows."""

    @property
    def where(self) -> str:
        """What messages call it: a folder or a file."""

    @property
    def fields(self) -> Mapping[str, gguf.GGUFValue]:
        """All key/values but ``general.file_type`` and ``general.quantization_version``."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name to shape, [n_out, n_in] for a matrix, in the order of the file."""

    @property
    def types(self) -> Mapping[str, str]:
        """The tensors that lie there in a type of GGUF already, and in which; vectors that are not here become F32."""

    def rows(self, name: str, start: int, stop: int) -> Rows:
        """Return rows [start, stop) as float32 [stop - start, n_in]; a vector is one row."""

    def packed(self, name: str, start: int, stop: int) -> Bytes:
        """Return rows of a tensor of ``types`` as they lie there, uint8 [stop - start, n_bytes of a row]."""


class UnpackedSource:
    """The part of a :class:`LanguageSource` that has nothing in a type of GGUF yet."""

    types: Mapping[str, str] = MappingProxyType({})

    def packed(self, name: str, start: int, stop: int) -> Bytes:
        """Never asked for, since ``types`` is empty."""
        raise NotImplementedError(name, start, stop)
