"""One pass writes every type with the bytes of llama.cpp's quantizer, in little memory, and leaves nothing half."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import gguf
import llama_quantize
import narrow_llama
import numpy as np
import pytest
from aesedge_export.language import language_gguf
from aesedge_export.language.gguf_source import GgufSource
from aesedge_export.language.language_gguf import PassProgress, language_bytes, write_language
from aesedge_export.language.tensor_types import ASKED_TYPES

from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.errors import BundleError, BundleFormatError, CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

MODELS: dict[str, dict[str, Any]] = {
    "wide rows": {"n_layers": 16, "n_embd": 256, "n_ff": 512},
    "rows of 32s and of none": {"n_layers": 9, "n_embd": 96, "n_ff": 100, "n_gqa": 2},
    "shared heads, tied": {"n_layers": 8, "n_embd": 512, "n_ff": 288, "n_gqa": 4, "tied": True},
}


def write_all(source: Any, folder: Path, types: Any, **options: Any) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    targets = {t: folder / f"{t}.gguf" for t in types}
    write_language(source, targets, **options)
    return targets


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("precision", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_type_is_what_llama_cpp_makes(
    tmp_path: Path, model: dict[str, Any], precision: str, weighted: bool
) -> None:
    path = narrow_llama.write(tmp_path / "source.gguf", precision=precision, **model)
    importance = narrow_llama.importance(model["n_layers"], model["n_embd"], model["n_ff"]) if weighted else None
    jobs = [llama_quantize.Job(path, tmp_path / t, GGUF_TYPES[t].ftype, importance) for t in GGUF_TYPES]
    llama_quantize.quantize_with_llama(jobs)
    ours = write_all(GgufSource(path), tmp_path / "ours", GGUF_TYPES, importance=importance, n_threads=2)
    for file_type, target in ours.items():
        assert llama_quantize.tensors(target) == llama_quantize.tensors(tmp_path / file_type), file_type


def test_importance_matters(tmp_path: Path) -> None:
    # Else the test above would not look at it.
    source = GgufSource(narrow_llama.write(tmp_path / "source.gguf"))
    plain = write_all(source, tmp_path / "plain", ["Q4_K_M"])
    weighted = write_all(source, tmp_path / "weighted", ["Q4_K_M"], importance=narrow_llama.importance(2, 256, 512))
    assert plain["Q4_K_M"].read_bytes() != weighted["Q4_K_M"].read_bytes()


@pytest.mark.parametrize("model", list(MODELS.values())[:2], ids=list(MODELS)[:2])
def test_q8_0_as_a_source_gives_what_llama_cpp_makes_of_it(tmp_path: Path, model: dict[str, Any]) -> None:
    first = GgufSource(narrow_llama.write(tmp_path / "source.gguf", **model))
    path = write_all(first, tmp_path / "first", ["Q8_0"])["Q8_0"]
    llama_quantize.quantize_with_llama(
        [llama_quantize.Job(path, tmp_path / t, GGUF_TYPES[t].ftype) for t in ASKED_TYPES]
    )
    for file_type, target in write_all(GgufSource(path), tmp_path / "ours", ASKED_TYPES).items():
        assert llama_quantize.tensors(target) == llama_quantize.tensors(tmp_path / file_type), file_type


def test_a_tensor_that_has_the_type_already_is_copied(tmp_path: Path) -> None:
    # Blocks of another quantizer, which need not use the whole range: quantizing their values again would spread them.
    first = GgufSource(narrow_llama.write(tmp_path / "source.gguf"))
    path = write_all(first, tmp_path / "first", ["Q8_0"])["Q8_0"]
    data = bytearray(path.read_bytes())
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.tensor_type.name == "Q8_0":
            start, n_block = int(tensor.data_offset), gguf.GGML_QUANT_SIZES[tensor.tensor_type][1]
            data[start + 2 : start + n_block] = bytes(range(n_block - 2))
    path.write_bytes(data)
    again = write_all(GgufSource(path), tmp_path / "again", ["Q8_0"])["Q8_0"]
    assert llama_quantize.tensors(again) == llama_quantize.tensors(path)


@pytest.mark.parametrize("stored", ["Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_NL", "Q5_0", "Q6_K"])
def test_any_type_can_be_read(tmp_path: Path, stored: str) -> None:
    first = GgufSource(narrow_llama.write(tmp_path / "source.gguf"))
    source = GgufSource(write_all(first, tmp_path, [stored])[stored])
    for tensor in gguf.GGUFReader(tmp_path / f"{stored}.gguf").tensors:
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(-1, tensor.shape[0])
        np.testing.assert_allclose(source.rows(tensor.name, 0, len(expected)), expected, rtol=1e-6, atol=1e-9)


def test_types_in_one_pass_equal_types_alone(tmp_path: Path) -> None:
    source = GgufSource(narrow_llama.write(tmp_path / "source.gguf", n_layers=8))
    together = write_all(source, tmp_path / "together", ASKED_TYPES, n_threads=2)
    for file_type, target in together.items():
        alone = write_all(source, tmp_path / "alone", [file_type])[file_type]
        assert alone.read_bytes() == target.read_bytes(), file_type


def test_chunks_and_pieces_of_any_size_give_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = GgufSource(narrow_llama.write(tmp_path / "source.gguf"))
    whole = write_all(source, tmp_path / "whole", ["Q4_K_M"])["Q4_K_M"].read_bytes()
    monkeypatch.setattr(language_gguf, "_CHUNK_VALUES", 600)  # two rows
    monkeypatch.setattr(language_gguf, "_PIECE_VALUES", 256)
    assert write_all(source, tmp_path / "cut", ["Q4_K_M"])["Q4_K_M"].read_bytes() == whole


def test_key_values_are_kept_and_say_the_type(tmp_path: Path) -> None:
    path = narrow_llama.write(tmp_path / "source.gguf")
    fields = gguf.GGUFReader(write_all(GgufSource(path), tmp_path, ["Q5_K_S"])["Q5_K_S"]).fields
    for key, field in gguf.GGUFReader(path).fields.items():
        if key not in {"general.file_type", "GGUF.kv_count"}:
            assert (fields[key].types, fields[key].contents()) == (field.types, field.contents()), key
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q5_K_S
    assert fields["general.quantization_version"].contents() == gguf.GGML_QUANT_VERSION


@pytest.mark.parametrize("weighted", [False, True])
def test_sizes_are_known_beforehand_and_progress_ends_there(tmp_path: Path, weighted: bool) -> None:
    source = GgufSource(narrow_llama.write(tmp_path / "source.gguf", **MODELS["rows of 32s and of none"]))
    seen: list[PassProgress] = []
    importance: dict[str, Any] | None = {} if weighted else None
    ours = write_all(source, tmp_path, ASKED_TYPES, importance=importance, progress=seen.append)
    assert language_bytes(source, ASKED_TYPES, weighted=weighted) == {t: p.stat().st_size for t, p in ours.items()}
    assert list(dict.fromkeys(p.tensor for p in seen)) == list(source.shapes)
    assert [p.n_done_bytes for p in seen] == sorted(p.n_done_bytes for p in seen)
    assert seen[-1].n_done_bytes == seen[-1].n_total_bytes


def test_tensors_stored_otherwise_are_named(tmp_path: Path) -> None:
    source = GgufSource(narrow_llama.write(tmp_path / "source.gguf", n_layers=1, n_ff=100))
    found = write_language(source, {t: tmp_path / t for t in ("Q4_K_M", "Q6_K", "F16")})
    assert found == {"Q4_K_M": {"blk.0.ffn_down.weight": "F16"}, "Q6_K": {"blk.0.ffn_down.weight": "F16"}, "F16": {}}


class WideSource:
    """One matrix of 268 MB as float32, made up row by row."""

    where = "wide"
    shapes: dict[str, tuple[int, ...]] = {"output.weight": (8192, 8192)}  # noqa: RUF012 (a protocol's attribute)
    types: dict[str, str] = {}  # noqa: RUF012
    fields: dict[str, Any] = {}  # noqa: RUF012

    def rows(self, name: str, start: int, stop: int) -> Any:
        return np.tile(np.linspace(-1, 1, 8192, dtype=np.float32), (stop - start, 1))


def test_memory_stays_small_whatever_the_size_of_a_tensor(tmp_path: Path) -> None:
    source: Any = WideSource()
    tracemalloc.start()
    try:
        write_all(source, tmp_path, ["BF16", "Q8_0"], n_threads=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Two chunks of 16 MiB of float32, one made and one in work, and what becomes of one.
    assert peak < 64 << 20


class SpoiledSource(GgufSource):
    """Has one value of another kind in its last rows."""

    spoiled = "blk.1.ffn_down.weight"
    value = np.nan

    def rows(self, name: str, start: int, stop: int) -> Any:
        rows = super().rows(name, start, stop)
        if name == self.spoiled:
            rows[-1, 3] = self.value
        return rows


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_and_nothing_is_left(tmp_path: Path, value: float) -> None:
    source = SpoiledSource(narrow_llama.write(tmp_path / "source.gguf"))
    source.value = value
    with pytest.raises(CheckpointError, match=r"source\.gguf: 'blk\.1\.ffn_down\.weight' holds values"):
        write_all(source, tmp_path / "out", ["Q4_K_M", "BF16"])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("value", [1e5, -65520])
def test_what_f16_cannot_hold_is_refused_and_what_it_can_is_not(tmp_path: Path, value: float) -> None:
    source = SpoiledSource(narrow_llama.write(tmp_path / "source.gguf"))
    source.value = value
    with pytest.raises(CheckpointError, match=r"'blk\.1\.ffn_down\.weight' has values beyond 65504.*BF16"):
        write_all(source, tmp_path, ["F16"])
    write_all(source, tmp_path, ["BF16", "Q8_0"])
    source.value = 65504
    write_all(source, tmp_path, ["F16"])


def test_a_scale_that_overflows_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = SpoiledSource(narrow_llama.write(tmp_path / "source.gguf"))
    source.value = 1e30
    with pytest.raises(CheckpointError, match=r"'blk\.1\.ffn_down\.weight': values are too large for Q8_0"):
        write_all(source, tmp_path, ["Q8_0"])


@pytest.mark.parametrize("values", [np.ones(255), np.full(256, np.nan), np.ones((2, 256))])
def test_an_importance_of_another_model_is_refused(tmp_path: Path, values: Any) -> None:
    source = GgufSource(narrow_llama.write(tmp_path / "source.gguf"))
    with pytest.raises(CheckpointError, match=r"importance of 'blk\.0\.attn_q\.weight'"):
        write_all(source, tmp_path, ["Q4_K_M"], importance={"blk.0.attn_q.weight": values})


def test_ctrl_c_leaves_no_file_and_no_thread(tmp_path: Path) -> None:
    def interrupt(progress: PassProgress) -> None:
        if progress.tensor == "blk.0.attn_q.weight":
            raise KeyboardInterrupt

    source = GgufSource(narrow_llama.write(tmp_path / "source.gguf"))
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        write_all(source, tmp_path / "out", ASKED_TYPES, n_threads=2, progress=interrupt)
    assert list((tmp_path / "out").iterdir()) == []
    assert threading.active_count() == before


FULL_DISK = """
import resource, sys
from pathlib import Path
from aesedge.errors import BundleError
from aesedge_export.language.gguf_source import GgufSource
from aesedge_export.language.language_gguf import write_language
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    write_language(GgufSource(Path(sys.argv[1])), {"Q8_0": Path(sys.argv[2])})
except BundleError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited there")
@pytest.mark.parametrize("limit", [100, 30_000, -1])
def test_a_full_disk_says_what_is_needed_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    path, target = narrow_llama.write(tmp_path / "source.gguf"), tmp_path / "out.gguf"
    n_bytes = language_bytes(GgufSource(path), ["Q8_0"])["Q8_0"]
    command = [sys.executable, "-c", FULL_DISK, str(path), str(target), str(limit if limit > 0 else n_bytes + limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(target) in done.stdout
    assert f"needs {n_bytes} bytes" in done.stdout
    assert not target.exists()


def test_a_disk_that_fills_up_at_the_end_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    source = GgufSource(narrow_llama.write(tmp_path / "source.gguf"))
    with pytest.raises(BundleError, match="No space left on device; the file needs"):
        write_all(source, tmp_path / "out", ["Q8_0"])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("keep", [0, 3, 200, 20_000])
def test_a_damaged_source_is_refused(tmp_path: Path, keep: int) -> None:
    path = narrow_llama.write(tmp_path / "source.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BundleFormatError, match=r"source\.gguf"):
        GgufSource(path)


@pytest.mark.parametrize(("version", "words"), [(1, "GGUF version 1"), (9, "GGUF version 9"), (3 << 24, "big-endian")])
def test_a_source_of_another_version_is_called_so(tmp_path: Path, version: int, words: str) -> None:
    path = narrow_llama.write(tmp_path / "source.gguf")
    data = path.read_bytes()
    path.write_bytes(data[:4] + version.to_bytes(4, "little") + data[8:])
    with pytest.raises(BundleFormatError, match=words):
        GgufSource(path)


@pytest.mark.parametrize(
    ("key", "value", "words"), [("llama.expert_count", 8, "mixture of experts"), ("split.count", 2, "several parts")]
)
def test_other_models_are_refused(tmp_path: Path, key: str, value: int, words: str) -> None:
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    writer.add_uint32(key, value)
    writer.add_tensor("output_norm.weight", np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BundleFormatError, match=words):
        GgufSource(tmp_path / "other.gguf")


def test_nothing_of_this_needs_torch_or_loads_llama_cpp() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'optimum']))\n"
        "from aesedge_export.language import ggml, gguf_source, language_gguf, tensor_types; ggml._load()\n"
        "print('llama_cpp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
