"""Weight files: any rows of a tensor are read without the rest of it, and damage is named."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import torch
from aesedge_export.checkpoint.weights import has_weights, open_file, open_weights
from safetensors.torch import save_file

from aesedge.errors import CheckpointError

pytestmark = pytest.mark.export

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def matrix(n_rows: int = 10, n_in: int = 7, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.randn((n_rows, n_in), generator=torch.Generator().manual_seed(1)).to(dtype)


def save(path: Path, tensors: dict[str, torch.Tensor], *, legacy: bool = False) -> Path:
    if path.suffix == ".bin":
        torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    else:
        save_file(tensors, path)
    return path


def refused(call: Any, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(("file", "legacy"), [("m.safetensors", False), ("m.bin", False), ("old.bin", True)])
def test_rows_are_the_tensor_s(tmp_path: Path, file: str, legacy: bool) -> None:
    tensors = {str(dtype): matrix(dtype=dtype) for dtype in DTYPES}
    tensors |= {"vector": matrix()[0].clone(), "scalar": torch.tensor(2.5), "kernel": torch.randn(3, 2, 4, 4)}
    found = open_file(save(tmp_path / file, tensors, legacy=legacy))
    assert found.keys() == tensors.keys()
    for name, expected in tensors.items():
        stored = found[name]
        assert (stored.dtype, stored.shape) == (expected.dtype, tuple(expected.shape))
        assert stored.n_bytes == expected.nbytes
        assert torch.equal(stored.tensor(), expected)
        for start, stop in [(0, 1), (2, 3), (1, 3), (0, 0)] if expected.ndim else []:
            assert torch.equal(stored.rows(start, stop), expected[start:stop])


def test_pickled_tensors_need_not_be_contiguous(tmp_path: Path) -> None:
    whole = matrix()
    # DeepSpeed saves views of one flat buffer; transposed ones come of tied or fused weights.
    tensors = {"view": whole[3:6], "transposed": whole.T, "column": whole[:, 2], "every other": whole[::2]}
    tensors["parameter"] = torch.nn.Parameter(whole.clone())
    found = open_file(save(tmp_path / "m.bin", tensors))
    for name, expected in tensors.items():
        assert torch.equal(found[name].tensor(), expected)
        assert torch.equal(found[name].rows(1, 3), expected[1:3])
        assert found[name].rows(1, 3).is_contiguous()


def test_what_is_read_is_the_reader_s_own(tmp_path: Path) -> None:
    for name, legacy in (("m.bin", False), ("old.bin", True)):
        stored = open_file(save(tmp_path / name, {"w": matrix()}, legacy=legacy))["w"]
        stored.rows(0, 2).zero_()
        assert torch.equal(stored.tensor(), matrix())


PEAK = """
import resource, sys
from pathlib import Path
from aesedge_export.checkpoint.weights import open_file
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for path in sys.argv[1:]:
    for tensor in open_file(Path(path)).values():
        for start in range(0, tensor.shape[0], 128):
            tensor.rows(start, start + 128)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux only")
def test_memory_stays_near_what_is_asked_for(tmp_path: Path) -> None:
    block = torch.ones((4096, 4096), dtype=torch.float16)
    tensors = {f"w{i}": block.clone() for i in range(4)}  # 128 MiB a file, read in chunks of 1 MiB
    files = [save(tmp_path / file, tensors) for file in ("m.safetensors", "m.bin")]
    done = subprocess.run([sys.executable, "-c", PEAK, *files], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24


@pytest.mark.parametrize("file", ["m.safetensors", "m.bin", "old.bin"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_named(tmp_path: Path, file: str, value: float) -> None:
    spoiled = matrix()
    spoiled[4, 2] = value
    stored = open_file(save(tmp_path / file, {"model.w": spoiled}, legacy=file == "old.bin"))["model.w"]
    refused(stored.tensor, file, "'model.w'", "not finite", "another copy")
    refused(lambda: stored.rows(4, 5), "not finite")
    assert torch.equal(stored.rows(5, 9), spoiled[5:9])


def write_shards(folder: Path, *held: dict[str, torch.Tensor], index: bool = True) -> None:
    names = {}
    for i, tensors in enumerate(held):
        path = save(folder / f"model-{i + 1:05}-of-{len(held):05}.safetensors", tensors)
        names |= dict.fromkeys(tensors, path.name)
    if index:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize("index", [True, False])
def test_shards_with_and_without_an_index(tmp_path: Path, index: bool) -> None:
    write_shards(tmp_path, {"a": matrix()}, {"b": matrix()}, {"c": matrix()}, index=index)
    found = open_weights(tmp_path)
    assert found is not None
    assert sorted(found) == ["a", "b", "c"]
    assert has_weights(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    refused(lambda: open_weights(tmp_path), "1 of 3 weight files are missing", "model-00002-of-00003.safetensors")


def test_one_tensor_in_two_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": matrix(), "b": matrix()}, {"b": matrix(), "c": matrix()})
    refused(lambda: open_weights(tmp_path), "'b' is both in model-00001-of-00002.safetensors and in model-00002")


def test_a_tensor_that_the_index_promises(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": matrix()}, {"b": matrix()})
    index = tmp_path / "model.safetensors.index.json"
    names = json.loads(index.read_bytes())
    names["weight_map"]["lost"] = "model-00002-of-00002.safetensors"
    index.write_text(json.dumps(names))
    refused(lambda: open_weights(tmp_path), "model-00002-of-00002.safetensors: 'lost' is not in it")


NO_INDEX = ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "{}", "\xff", "[" * 10**5]


@pytest.mark.parametrize("content", NO_INDEX)
def test_a_damaged_index(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content, encoding="latin-1")
    refused(lambda: open_weights(tmp_path), "model.safetensors.index.json")


def test_an_index_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    save(tmp_path / "secret.safetensors", {"a": matrix()})
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    refused(lambda: open_weights(inside), "1 of 1 weight files are missing (secret.safetensors)")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    assert open_weights(tmp_path) is None
    assert not has_weights(tmp_path)


@pytest.mark.parametrize("file", ["m.safetensors", "m.bin", "old.bin"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_file_that_ends_early(tmp_path: Path, file: str, share: float) -> None:
    path = save(tmp_path / file, {"w": matrix(300), "v": matrix(200)}, legacy=file == "old.bin")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(lambda: open_file(path), file, "download it again")


def test_a_file_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", {"w": matrix(300)})
    stored = open_file(path)["w"]
    path.write_bytes(path.read_bytes()[:-100])
    assert torch.equal(stored.rows(0, 5), matrix(300)[:5])
    refused(stored.tensor, "m.safetensors: ends within 'w'")
    path.unlink()
    refused(stored.tensor, "cannot be read")


def test_quantized_files(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    refused(lambda: open_file(tmp_path / "m.safetensors"), "m.safetensors", "'w' is stored as F4")
    torch.save({"w": matrix().to_sparse()}, tmp_path / "m.bin")
    refused(lambda: open_file(tmp_path / "m.bin"), "m.bin", "sparse")


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_code_is_not_run(tmp_path: Path, how: str) -> None:
    path, hostile = tmp_path / "m.bin", {"w": Hostile(tmp_path / "ran")}
    if how == "pickle":
        path.write_bytes(pickle.dumps(hostile, protocol=2))
    else:
        torch.save(hostile, path, _use_new_zipfile_serialization=how == "zip")
    refused(lambda: open_file(path), "m.bin", "holds more than tensors", "safetensors")
    assert not (tmp_path / "ran").exists()


def test_pickles_that_are_no_weights(tmp_path: Path) -> None:
    torch.save([matrix()], tmp_path / "m.bin")
    refused(lambda: open_file(tmp_path / "m.bin"), "holds no tensors by name")
    torch.save(OrderedDict(w=matrix(), step=3), tmp_path / "m.bin")
    assert list(open_file(tmp_path / "m.bin")) == ["w"]


def test_a_packed_archive(tmp_path: Path) -> None:
    # Values that are compressed do not lie in the file as they are.
    save(tmp_path / "m.bin", {"w": matrix(300)})
    with zipfile.ZipFile(tmp_path / "m.bin") as source, zipfile.ZipFile(tmp_path / "packed.bin", "w") as packed:
        for record in source.infolist():
            packed.writestr(record.filename, source.read(record), compress_type=zipfile.ZIP_DEFLATED)
    refused(lambda: open_file(tmp_path / "packed.bin"), "packed.bin", "damaged weight file")
