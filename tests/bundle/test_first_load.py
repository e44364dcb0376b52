"""Model files of others: refused by their headers in words, or tried in a child whose end is an error of ours."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import onnx
import pytest
import tiny
from altered_files import Gguf
from conftest import drawn_photo, open_tiny
from onnx import numpy_helper

from aesedge.bundle import first_load
from aesedge.bundle.bundle import open_bundle
from aesedge.bundle.first_load import ModelFile, check_files, file_state
from aesedge.bundle.gguf_header import TYPES, read_header
from aesedge.bundle.llama_gguf import check_language_file
from aesedge.cli import main
from aesedge.errors import AesedgeError, BundleFormatError, InferenceError, ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def key(file: Gguf, name: str) -> list[Any]:
    return next(entry for entry in file.keys if entry[0] == name.encode())


def put(name: str, value: object, kind: int | None = None) -> Callable[[Gguf], None]:
    """Return what sets a key's value, and its type where one is given."""

    def change(file: Gguf) -> None:
        entry = key(file, name)
        entry[3] = value
        entry[1] = entry[1] if kind is None else kind

    return change


def add(name: str, kind: int, value: object) -> Callable[[Gguf], None]:
    def change(file: Gguf) -> None:
        file.keys.append([name.encode(), kind, None, value])
        file.n_keys += 1

    return change


def drop(name: str) -> Callable[[Gguf], None]:
    def change(file: Gguf) -> None:
        file.keys.remove(key(file, name))
        file.n_keys -= 1

    return change


def in_list(name: str, index: int, value: object) -> Callable[[Gguf], None]:
    def change(file: Gguf) -> None:
        key(file, name)[3][index] = value

    return change


def of_tensor(name: str, part: int, value: object) -> Callable[[Gguf], None]:
    def change(file: Gguf) -> None:
        next(tensor for tensor in file.tensors if tensor[0] == name.encode())[part] = value

    return change


def of_file(name: str, value: object) -> Callable[[Gguf], None]:
    return lambda file: setattr(file, name, value)


NAME, SHAPE, KIND, OFFSET = range(4)
T = "tokenizer.ggml."
WRONG: dict[str, tuple[Callable[[Gguf], None], str]] = {
    "version 1": (of_file("version", 1), "GGUF version 1; versions 2 and 3 can be read: convert it again"),
    "version 4": (of_file("version", 4), "GGUF version 4; versions 2 and 3 can be read: update aesedge"),
    "other byte order": (of_file("version", 3 << 24), "big-endian"),
    "more tensors than there are": (of_file("n_tensors", 10**6), "1000000 tensors"),
    "more keys than there are": (of_file("n_keys", 27), "its header|no text|unknown type"),
    "cut in the header": (of_file("cut", 500), "cut off"),
    "cut in the weights": (of_file("cut", 200_000), "cut off: 200000 bytes"),
    "alignment 0": (add("general.alignment", 4, 0), "alignment"),
    "alignment 3": (add("general.alignment", 4, 3), "alignment"),
    "alignment a text": (add("general.alignment", 8, b"32"), "alignment"),
    "a key twice": (add("llama.block_count", 4, 2), "'llama.block_count' twice"),
    "unknown type of value": (put("llama.block_count", 2, 13), "unknown type 13"),
    "another architecture": (put("general.architecture", b"qwen2"), "holds the architecture 'qwen2'"),
    "no layers": (put("llama.block_count", 0), "block_count' is 0"),
    "absurdly many layers": (put("llama.block_count", 10**9), "block_count' is 1000000000"),
    "a layer too many": (put("llama.block_count", 3), "block_count' is 3, there are tensors of 2"),
    "a layer too few": (put("llama.block_count", 1), "block_count' is 1, there are tensors of 2"),
    "no width": (put("llama.embedding_length", 0), "embedding_length' is 0"),
    "another width": (put("llama.embedding_length", 128), "has the shape"),
    "no heads": (put("llama.attention.head_count", 0), "head_count' is 0"),
    "heads that do not divide": (put("llama.attention.head_count", 3), "do not divide|it must be"),
    "no heads with keys": (put("llama.attention.head_count_kv", 0), "head_count_kv' is 0"),
    "no context": (put("llama.context_length", 0), "context_length' is 0"),
    "a context without end": (put("llama.context_length", 2**32 - 1), "context_length' is 4294967295"),
    "epsilon 0": (put("llama.attention.layer_norm_rms_epsilon", 0.0), "above 0"),
    "epsilon no number": (put("llama.attention.layer_norm_rms_epsilon", float("nan")), "above 0"),
    "odd rotation": (put("llama.rope.dimension_count", 3), "odd"),
    "rotation wider than a head": (put("llama.rope.dimension_count", 64), "dimension_count' is 64"),
    "frequency 0": (add("llama.rope.freq_base", 6, 0.0), "freq_base"),
    "frequency infinite": (add("llama.rope.freq_base", 6, float("inf")), "freq_base"),
    "experts": (add("llama.expert_count", 4, 8), "expert_count"),
    "no number elsewhere": (add("llama.rope.scaling.attn_factor", 6, float("nan")), "not a number"),
    "another vocabulary": (put(f"{T}model", b"gpt2"), "vocabulary 'gpt2'"),
    "no tokens": (drop(f"{T}tokens"), "no list of tokens"),
    "empty list of tokens": (put(f"{T}tokens", []), "no list of tokens"),
    "a token twice": (in_list(f"{T}tokens", 300, b"<s>"), "a token twice"),
    "a byte without a token": (in_list(f"{T}tokens", 13, b"nothing"), "no token for 1 of the 256 bytes"),
    "a score too few": (lambda file: key(file, f"{T}scores")[3].pop(), "scores' is not a list of"),
    "a score that is no number": (in_list(f"{T}scores", 5, float("nan")), "scores"),
    "an unknown type of token": (in_list(f"{T}token_type", 5, 99), "token_type"),
    "bos beyond the tokens": (put(f"{T}bos_token_id", 10**6), "bos_token_id' is 1000000"),
    "no bos": (put(f"{T}bos_token_id", 2**32 - 1), "no token that begins"),
    "a tensor twice": (of_tensor("blk.1.attn_q.weight", NAME, b"blk.0.attn_q.weight"), "twice"),
    "a tensor without a name": (of_tensor("blk.1.attn_q.weight", NAME, b""), "no text"),
    "a tensor's name with escapes": (of_tensor("blk.1.attn_q.weight", NAME, b"\x1b[2J"), "no text"),
    "a missing tensor": (of_tensor("blk.1.attn_q.weight", NAME, b"blk.1.other.weight"), "'blk.1.attn_q.weight' is mis"),
    "a tensor without shape": (of_tensor("blk.1.attn_q.weight", SHAPE, []), "0 dimensions"),
    "a shape of nothing": (of_tensor("blk.1.attn_q.weight", SHAPE, [64, 0]), r"shape \[64, 0\]"),
    "a shape beyond all": (of_tensor("blk.1.attn_q.weight", SHAPE, [2**62, 4]), "shape"),
    "a smaller tensor": (of_tensor("blk.1.attn_q.weight", SHAPE, [32, 64]), "its keys say"),
    "a norm of another type": (
        of_tensor("blk.1.attn_norm.weight", KIND, 1),
        "stored as F16, llama.cpp reads it as F32",
    ),
    "no type of weights": (of_tensor("blk.1.attn_q.weight", KIND, 26), "type 26"),
    "a removed type": (of_tensor("blk.1.attn_q.weight", KIND, 4), "type 4"),
    "rows that are no blocks": (of_tensor("blk.1.attn_q.weight", KIND, 12), "blocks of 256"),
    "a tensor between places": (of_tensor("blk.1.attn_q.weight", OFFSET, 33), "not a multiple"),
    "a tensor beyond the end": (of_tensor("output.weight", OFFSET, 2**40), "cut off"),
    "a tensor over another": (of_tensor("output.weight", OFFSET, 0), "overlaps"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_llama_cpp_may_end_over_is_said_before_it_is_asked(
    gguf_path: Path, tmp_path: Path, change: Callable[[Gguf], None], message: str
) -> None:
    file = Gguf(gguf_path.read_bytes())
    change(file)
    path = tmp_path / "altered.gguf"
    path.write_bytes(file.written())
    with pytest.raises(BundleFormatError, match=message) as caught:
        check_language_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_header_is_read_as_the_package_gguf_reads_it(gguf_path: Path) -> None:
    header = read_header(gguf_path)
    reader = gguf.GGUFReader(gguf_path)
    assert {t.name: (tuple(map(int, t.shape)), int(t.n_bytes)) for t in reader.tensors} == {
        name: (tensor.shape, tensor.n_bytes) for name, tensor in header.tensors.items()
    }
    assert header.values["llama.block_count"] == reader.fields["llama.block_count"].contents()
    assert header.text("general.name") == "tiny"
    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: (n, n_bytes) for kind, (_, n, n_bytes) in TYPES.items()}.items() <= sizes.items()


def set_weights(value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        weight = next(w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT)
        values = np.full_like(numpy_helper.to_array(weight), value)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    return change


def set_size(field: str, value: object) -> Callable[[onnx.ModelProto], None]:
    """Return what changes both sides of the picture that goes in."""

    def change(model: onnx.ModelProto) -> None:
        for i in (2, 3):
            setattr(model.graph.input[0].type.tensor_type.shape.dim[i], field, value)

    return change


ONNX: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "an operator of others": (lambda m: setattr(m.graph.node[0], "domain", "evil"), "ONNX Runtime cannot load it"),
    "an unknown operator": (lambda m: setattr(m.graph.node[0], "op_type", "Evil"), "ONNX Runtime cannot load it"),
    "another opset": (lambda m: setattr(m.opset_import[0], "version", 9999), "ONNX Runtime cannot load it"),
    "another input": (lambda m: setattr(m.graph.input[0], "name", "x" * 9999), "cannot load it|has the input"),
    "an open size": (set_size("dim_param", "n"), "has the input"),
    "another size": (set_size("dim_value", 64), "64 pixels|instead of|stopped"),
    "an absurd size": (set_size("dim_value", 2**40), "has the input|cannot load"),
    "no size": (set_size("dim_value", 0), "has the input|cannot load"),
    "no numbers": (set_weights(float("nan")), "not finite"),
}


def bundle_of(folder: Path, llm: Path, tower: Path) -> Path:
    tiny.write_manifest(folder, [tiny.described(tower, "vision", "fp32"), tiny.described(llm, "llm", "F32")])
    return folder


@pytest.mark.parametrize(("change", "message"), ONNX.values(), ids=ONNX)
def test_a_graph_that_is_no_tower_is_one_line(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    folder = bundle_of(
        tmp_path, tiny.write_gguf(tmp_path / "llm.gguf"), tiny.write_altered_tower(tmp_path / "vision.onnx", change)
    )
    with pytest.raises(AesedgeError, match=message) as caught:
        open_tiny(folder)
    assert str(tmp_path / "vision.onnx") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_language_model_without_numbers_is_named(tmp_path: Path, value: float, capsys: Any) -> None:
    file = Gguf(tiny.write_gguf(tmp_path / "llm.gguf").read_bytes())
    offset = next(tensor[OFFSET] for tensor in file.tensors if tensor[NAME] == b"output.weight")
    file.rest[offset : offset + 4096] = struct.pack("<f", value) * 1024
    (tmp_path / "llm.gguf").write_bytes(file.written())
    folder = bundle_of(tmp_path, tmp_path / "llm.gguf", tiny.write_tower(tmp_path / "vision.onnx"))
    drawn_photo().save(tmp_path / "a.png")
    for command in (["score"], ["score", "--json"], ["run"]):
        assert main([*command, "--bundle", str(folder), str(tmp_path / "a.png")]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert str(folder) in line
        assert "not a number" in line
    # Where it was loaded before, or believed to be, each answer says so.
    for described in open_bundle(folder).manifest.files:
        first_load.note_loaded([ModelFile(described.role, folder / described.path, described.sha256)])
    with open_tiny(folder) as model, model.look(tmp_path / "a.png") as photo:
        with pytest.raises(InferenceError, match=r"llm\.gguf: .*not finite"):
            photo.score()
        for temperature in (0.0, 1.0):
            with pytest.raises(InferenceError, match=r"llm\.gguf: .*not finite"):
                photo.ask("x", model_writing(temperature))


def model_writing(temperature: float) -> Any:
    from aesedge.engine.generation_options import GenerationOptions

    return GenerationOptions(temperature=temperature, seed=1, max_tokens=3)


def child_that(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the child process do something else with the files that it gets."""
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        return real([sys.executable, "-c", code, *command[3:]], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)


ENDS = {
    "killed": ("import os; os.abort()", "signal 6"),
    "an assertion": (
        "import sys, os; print('x.cpp:1: GGML_ASSERT(n > 0) failed', file=sys.stderr, flush=True); os.abort()",
        r"n > 0",
    ),
    "an exception of C++": ("import sys; sys.stderr.write('  what():  vector::at\\n'); sys.exit(3)", "vector::at"),
    "a library that prints": ("print('Some library: x'); print('[]'); raise SystemExit(5)", "exit code 5"),
    "a traceback": ("raise MemoryError('so much')", "MemoryError: so much"),
    "without end": ("import time; time.sleep(60)", "not over after"),
    "all memory": ("x = bytearray(400_000_000)\nfor i in range(0, len(x), 4096): x[i] = 1\nwhile True: pass", "MB of"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize(("code", "message"), ENDS.values(), ids=ENDS)
def test_however_the_child_ends_it_is_one_line_that_names_the_file(
    gguf_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    child_that(monkeypatch, code)
    if "without end" in code or "sleep" in code:
        monkeypatch.setattr(first_load, "_LEAST_S", 0.5)
    monkeypatch.setattr(first_load, "_LEAST_MEMORY_BYTES", 200_000_000)
    file = ModelFile("llm", gguf_path, "never seen")
    with pytest.raises(ModelLoadError, match=message) as caught:
        check_files([file])
    assert str(gguf_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not first_load.is_known(file)


def test_a_file_is_tried_once_and_its_changed_copy_again(
    gguf_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "llm.gguf"
    path.write_bytes(gguf_path.read_bytes())
    file = ModelFile("llm header", path, file_state(path))
    check_files([file])
    monkeypatch.setattr(first_load, "_load_in_child", lambda _files: pytest.fail("tried again"))
    check_files([file])
    monkeypatch.setattr(first_load, "_proven_here", set())  # as another process of this machine
    check_files([file])
    path.write_bytes(gguf_path.read_bytes())
    assert not first_load.is_known(ModelFile("llm header", path, file_state(path)))


def test_the_bundle_inside_the_package_needs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_load, "_load_in_child", lambda _files: pytest.fail("tried"))
    with open_tiny(open_bundle("pocket").folder) as model:
        assert model.n_image_tokens


def test_where_no_process_can_be_started_the_headers_are_checked(
    gguf_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    check_files([ModelFile("llm", gguf_path, "never seen either")])
    bad = gguf_path.with_name("vision-fp32.onnx")
    with pytest.raises(BundleFormatError, match="not a GGUF file"):
        check_files([ModelFile("llm", bad, "nor this")])
