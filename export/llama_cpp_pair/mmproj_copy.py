"""Write a copy of an mmproj file with which llama.cpp computes what the model was trained with, but for one row.

llama.cpp's two deviations (see :mod:`.mmproj`) can be undone from within the file: a feature layer is named, and the
positions are turned round by one, so that each patch finds its own behind the class token that stands last. What
cannot be undone is which rows are handed out: the first patch's is missing and the class token's comes last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .mmproj import FEATURE_LAYER_KEY, POSITIONS, POST_NORM, PROJECTOR, PROJECTOR_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from .mmproj import Mmproj


def write_as_trained(mmproj: Mmproj, path: Path) -> None:
    """Write the copy. Its rows 0 to n-2 are the trained model's rows 1 to n-1; row n-1 is to be left out."""
    import gguf

    values = {
        **mmproj.file.values,
        FEATURE_LAYER_KEY: [mmproj.trained.n_layers],
        PROJECTOR_KEY: PROJECTOR,  # the oldest files lack it
    }
    writer = gguf.GGUFWriter(path, "clip")
    try:
        for key, value in values.items():
            if key not in {"general.architecture", "general.alignment"}:
                _add(writer, key, value)
        kept = {name: tensor for name, tensor in mmproj.file.tensors.items() if not name.startswith(POST_NORM)}
        for name, tensor in kept.items():
            data = tensor.data
            writer.add_tensor_info(name, data.shape, data.dtype, data.nbytes, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in kept.items():  # one at a time: they are read from the file as they are written
            writer.write_tensor_data(np.roll(tensor.data, -1, axis=0) if name == POSITIONS else tensor.data)
    finally:
        writer.close()


def _add(writer: object, key: str, value: object) -> None:
    """Add a key with the type that fits its value: llama.cpp reads whole numbers of 32 bits from these files."""
    import gguf

    kinds = {bool: gguf.GGUFValueType.BOOL, int: gguf.GGUFValueType.UINT32, float: gguf.GGUFValueType.FLOAT32}
    kinds[str] = gguf.GGUFValueType.STRING
    if not isinstance(value, list):
        writer.add_key_value(key, value, kinds[type(value)])  # type: ignore[attr-defined]
    elif value:
        inner = gguf.GGUFValueType.INT32 if isinstance(value[0], int) else kinds[type(value[0])]
        writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, inner)  # type: ignore[attr-defined]
