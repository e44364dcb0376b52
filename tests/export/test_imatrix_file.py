"""Importance matrices as files: llama.cpp reads ours and we read its; bad files are refused; a bundle may hold one."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
import tiny
from aesedge_export.language.imatrix_file import read_imatrix, write_imatrix
from aesedge_export.language.importance import Importance

from aesedge.bundle.bundle import open_bundle
from aesedge.bundle.manifest import format_manifest, parse_manifest
from aesedge.errors import AesedgeError, BundleError, BundleFormatError, CheckpointError, UsageError
from aesedge.llm.ggml import ggml_function

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
WEIGHTS = [f"blk.{i}.{part}.weight" for i in range(tiny.N_LAYER) for part in PARTS]


@pytest.fixture(scope="module")
def importance() -> Importance:
    rng = np.random.default_rng(0)
    lengths = {name: tiny.N_FF if "ffn_down" in name else tiny.N_EMBD for name in WEIGHTS}
    values = {name: rng.lognormal(size=n).astype(np.float32) for name, n in lengths.items()}
    return Importance(values, dict.fromkeys(WEIGHTS, 137), ("a.jpg", "b.jpg"))


@pytest.fixture
def written(importance: Importance, tmp_path: Path) -> Path:
    path = tmp_path / "imatrix.gguf"
    write_imatrix(importance, path)
    return path


def test_what_was_written_is_read(importance: Importance, written: Path) -> None:
    found = read_imatrix(written)
    assert found.photos == importance.photos
    assert found.n_rows == importance.n_rows
    for name in WEIGHTS:
        np.testing.assert_allclose(found.values[name], importance.values[name], rtol=1e-6)
    assert [p.name for p in written.parent.iterdir()] == [written.name]


class GgmlContext(ctypes.Structure):
    _fields_ = (("n_bytes", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class GgufParams(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))


@pytest.fixture(scope="module")
def ggml() -> Any:
    """The C functions with which llama-imatrix writes and llama-quantize reads."""
    lib = SimpleNamespace()
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for name, result, arguments in (
        ("gguf_init_from_file", pointer, [text, GgufParams]),
        ("gguf_init_empty", pointer, []),
        ("gguf_find_key", ctypes.c_int64, [pointer, text]),
        ("gguf_get_val_str", text, [pointer, ctypes.c_int64]),
        ("gguf_get_val_u32", ctypes.c_uint32, [pointer, ctypes.c_int64]),
        ("gguf_get_arr_str", text, [pointer, ctypes.c_int64, size]),
        ("gguf_get_n_kv", ctypes.c_int64, [pointer]),
        ("gguf_get_n_tensors", ctypes.c_int64, [pointer]),
        ("gguf_set_val_str", None, [pointer, text, text]),
        ("gguf_set_val_u32", None, [pointer, text, ctypes.c_uint32]),
        ("gguf_set_arr_str", None, [pointer, text, ctypes.POINTER(text), size]),
        ("gguf_add_tensor", None, [pointer, pointer]),
        ("gguf_write_to_file", ctypes.c_bool, [pointer, text, ctypes.c_bool]),
        ("gguf_free", None, [pointer]),
        ("ggml_init", pointer, [GgmlContext]),
        ("ggml_free", None, [pointer]),
        ("ggml_new_tensor_2d", pointer, [pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]),
        ("ggml_set_name", pointer, [pointer, text]),
        ("ggml_get_tensor", pointer, [pointer, text]),
        ("ggml_nelements", ctypes.c_int64, [pointer]),
        ("ggml_get_data_f32", ctypes.POINTER(ctypes.c_float), [pointer]),
    ):
        setattr(lib, name, ggml_function(name, result, *arguments))
    return lib


def test_llama_cpp_reads_our_file(ggml: Any, importance: Importance, written: Path) -> None:
    tensors = ctypes.c_void_p()
    file = ggml.gguf_init_from_file(str(written).encode(), GgufParams(False, ctypes.addressof(tensors)))
    try:
        key = ggml.gguf_find_key
        assert ggml.gguf_get_n_kv(file) == 4
        assert ggml.gguf_get_val_str(file, key(file, b"general.type")) == b"imatrix"
        assert ggml.gguf_get_arr_str(file, key(file, b"imatrix.datasets"), 1) == b"b.jpg"
        assert ggml.gguf_get_val_u32(file, key(file, b"imatrix.chunk_count")) == 2
        assert ggml.gguf_get_val_u32(file, key(file, b"imatrix.chunk_size")) == importance.n_positions // 2
        assert ggml.gguf_get_n_tensors(file) == 2 * len(WEIGHTS)
        for name in WEIGHTS:
            sums, counts = (ggml.ggml_get_tensor(tensors, f"{name}{end}".encode()) for end in (".in_sum2", ".counts"))
            assert ggml.ggml_nelements(counts) == 1
            assert ggml.ggml_get_data_f32(counts)[0] == importance.n_positions
            n_in = len(importance.values[name])
            assert ggml.ggml_nelements(sums) == n_in
            values = np.ctypeslib.as_array(ggml.ggml_get_data_f32(sums), (n_in,)) / importance.n_positions
            np.testing.assert_allclose(values, importance.values[name], rtol=1e-6)
    finally:
        ggml.gguf_free(file)
        ggml.ggml_free(tensors)


def test_a_file_of_llama_imatrix_is_read(ggml: Any, tmp_path: Path) -> None:
    path = tmp_path / "theirs.gguf"
    context, file = ggml.ggml_init(GgmlContext(2**16, None, False)), ggml.gguf_init_empty()
    ggml.gguf_set_val_str(file, b"general.type", b"imatrix")
    ggml.gguf_set_arr_str(file, b"imatrix.datasets", (ctypes.c_char_p * 1)(b"wiki.txt"), 1)
    ggml.gguf_set_val_u32(file, b"imatrix.chunk_count", 3)
    ggml.gguf_set_val_u32(file, b"imatrix.chunk_size", 512)
    for name, values in (("blk.0.attn_q.weight.in_sum2", [3.0, 6.0, 9.0]), ("blk.0.attn_q.weight.counts", [1536.0])):
        tensor = ggml.ggml_new_tensor_2d(context, 0, len(values), 1)
        ggml.ggml_set_name(tensor, name.encode())
        np.ctypeslib.as_array(ggml.ggml_get_data_f32(tensor), (len(values),))[:] = values
        ggml.gguf_add_tensor(file, tensor)
    assert ggml.gguf_write_to_file(file, str(path).encode(), False)
    ggml.gguf_free(file)
    ggml.ggml_free(context)
    found = read_imatrix(path)
    assert found.n_rows == {"blk.0.attn_q.weight": 1536}
    np.testing.assert_allclose(found.values["blk.0.attn_q.weight"], np.array([3, 6, 9]) / 1536, rtol=1e-6)
    assert found.photos == ("wiki.txt",)


def write_raw(path: Path, kind: str = "imatrix", **tensors: Any) -> None:
    w = gguf.GGUFWriter(path, "")
    w.add_type(kind)
    for name, values in tensors.items():
        array = np.asarray(values)
        w.add_tensor("blk.0.attn_q.weight." + name, array if array.dtype == np.float16 else array.astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
OLD_DAT = b"\2\0\0\0\x13\0\0\0blk.0.attn_q.weight\5\0\0\0"


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda p: None, UsageError, "no such file"),
        (lambda p: p.mkdir(), UsageError, "cannot be read"),
        (lambda p: p.write_bytes(b""), UsageError, "not an importance matrix"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" * 9), UsageError, "not an importance matrix"),
        (lambda p: p.write_bytes(OLD_DAT), UsageError, "old .dat format"),
        (lambda p: p.write_bytes(LFS_POINTER), UsageError, "git lfs pull"),
        (lambda p: p.write_bytes(b"GGUF\x09\0\0\0" + b"\0" * 40), CheckpointError, "GGUF version 9"),
        (tiny.write_gguf, UsageError, "kind 'model'"),
        (lambda p: p.write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 40), CheckpointError, "damaged"),
        (write_raw, CheckpointError, "any tensor"),
        (lambda p: write_raw(p, in_sum2=[[1, 2]]), CheckpointError, "not both there"),
        (lambda p: write_raw(p, counts=[[1]]), CheckpointError, "not both there"),
        (lambda p: write_raw(p, in_sum2=[[1, np.nan]], counts=[[1]]), CheckpointError, "not finite"),
        (lambda p: write_raw(p, in_sum2=[[1, -1]], counts=[[1]]), CheckpointError, "negative"),
        (lambda p: write_raw(p, in_sum2=[[1, 2]], counts=[[np.inf]]), CheckpointError, "not finite"),
        (lambda p: write_raw(p, in_sum2=[[1, 2]], counts=[[-1]]), CheckpointError, "count"),
        (lambda p: write_raw(p, in_sum2=[[1, 2]], counts=[[0]]), CheckpointError, "measured on nothing"),
        (lambda p: write_raw(p, in_sum2=[[1, 2], [1, 2]], counts=[[1], [1]]), UsageError, "experts"),
        (lambda p: write_raw(p, in_sum2=np.ones((1, 2), np.float16), counts=[[1]]), CheckpointError, "F16"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, spoil: Any, error: type[AesedgeError], words: str) -> None:
    path = tmp_path / "bad.imatrix"
    spoil(path)
    with pytest.raises(error, match=words) as raised:
        read_imatrix(path)
    assert str(path) in str(raised.value)


def test_a_file_that_was_cut_off_is_refused(written: Path) -> None:
    data = written.read_bytes()
    for n in range(4, len(data) - 64, len(data) // 12):
        written.write_bytes(data[:n])
        with pytest.raises(CheckpointError, match=r"imatrix\.gguf"):
            read_imatrix(written)


def test_a_folder_that_cannot_be_written_leaves_nothing(
    importance: Importance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="cannot be written"):
        write_imatrix(importance, tmp_path / "missing" / "imatrix.gguf")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(BundleError, match="No space left"):
        write_imatrix(importance, tmp_path / "imatrix.gguf")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def bundle_with_imatrix(importance: Importance, tmp_path: Path) -> Path:
    folder = tiny.write_bundle(tmp_path / "calibrated", name="calibrated")
    write_imatrix(importance, folder / "imatrix.gguf")
    files = [*open_bundle(folder).manifest.files, tiny.described(folder / "imatrix.gguf", "imatrix", "gguf")]
    tiny.write_manifest(folder, files, name="calibrated")
    return folder


def test_a_bundle_may_hold_one(bundle_with_imatrix: Path) -> None:
    bundle = open_bundle(bundle_with_imatrix)
    assert read_imatrix(bundle.path("imatrix", "gguf")).photos == ("a.jpg", "b.jpg")
    assert all(not problem for _, problem in bundle.verify())
    assert bundle.manifest.types("llm") == ["F32", "Q4_K_M"]
    command = [sys.executable, "-m", "aesedge", "info", str(bundle_with_imatrix)]
    assert "imatrix.gguf" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_role_that_this_version_does_not_know_is_named(bundle_with_imatrix: Path) -> None:
    data = format_manifest(open_bundle(bundle_with_imatrix).manifest)
    with pytest.raises(BundleFormatError, match=r"'adapter'.*\.files\[3\]\.role"):
        parse_manifest(data.replace(b'"role": "imatrix"', b'"role": "adapter"'), "manifest.json")
