"""The importance matrix is what PyTorch sees going into every matrix, photos included, in a file llama.cpp reads."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import gguf
import llama_quantize
import numpy as np
import pytest
import tiny
from aesedge_export.language import activations, importance
from aesedge_export.language.gguf_source import GgufSource
from aesedge_export.language.imatrix_file import read_imatrix, write_imatrix
from aesedge_export.language.importance import Calibration, Importance, gather
from aesedge_export.language.language_gguf import write_language
from aesedge_export.language.tensor_types import FILE_TYPES
from conftest import drawn_photo

from aesedge.bundle import open_bundle
from aesedge.errors import AesedgeError, BundleError, BundleFormatError, CheckpointError, InferenceError, UsageError
from aesedge.image import preprocess
from aesedge.llm import LanguageModel
from aesedge.manifest import format_manifest, parse_manifest
from aesedge.prompt import prompt_template
from aesedge.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

N_ANSWER = 5
PHOTOS = [("a.jpg", drawn_photo(1)), ("b.jpg", drawn_photo(2))]
HF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WEIGHTS = [f"blk.{i}.{part}.weight" for i in range(tiny.N_LAYER) for part in HF_NAMES.values()]


@pytest.fixture(scope="module")
def tower(bundle_folder: Path) -> Iterator[VisionTower]:
    with VisionTower(bundle_folder / "vision-fp32.onnx", device="cpu", n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def watch(bundle_folder: Path, gguf_path: Path, tower: VisionTower) -> Callable[..., Importance]:
    manifest = open_bundle(bundle_folder).manifest

    def run(photos: Any = PHOTOS, *, llm: Path = gguf_path, n_answer: int = N_ANSWER, **options: Any) -> Importance:
        calibration = Calibration(photos, manifest.image, manifest.prompt, manifest.rating, n_answer)
        return gather(llm, tower, calibration, n_threads=1, **options)

    return run


@pytest.fixture(scope="module")
def measured(watch: Callable[..., Importance]) -> Importance:
    return watch()


class TorchSums:
    """transformers' Llama with the weights of a GGUF file, its linear layers watched by hooks."""

    def __init__(self, path: Path) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        tensors = {t.name: torch.tensor(t.data) for t in gguf.GGUFReader(path).tensors}
        config = LlamaConfig(
            vocab_size=len(tensors["output.weight"]),
            hidden_size=tiny.N_EMBD,
            intermediate_size=tiny.N_FF,
            num_hidden_layers=tiny.N_LAYER,
            num_attention_heads=tiny.N_HEAD,
            rms_norm_eps=1e-5,
            attn_implementation="eager",
        )
        self.model = LlamaForCausalLM(config).eval()
        state = {
            "model.embed_tokens.weight": tensors["token_embd.weight"],
            "model.norm.weight": tensors["output_norm.weight"],
            "lm_head.weight": tensors["output.weight"],
        }
        self.sums = {name: np.zeros(0) for name in WEIGHTS}
        self.counted = slice(0)
        for i, layer in enumerate(self.model.model.layers):
            state[f"model.layers.{i}.input_layernorm.weight"] = tensors[f"blk.{i}.attn_norm.weight"]
            state[f"model.layers.{i}.post_attention_layernorm.weight"] = tensors[f"blk.{i}.ffn_norm.weight"]
            for theirs, ours in HF_NAMES.items():
                name = f"blk.{i}.{ours}.weight"
                rows = tensors[name]
                if ours in {"attn_q", "attn_k"}:  # llama.cpp interleaves what RoPE turns; the columns stay
                    rows = rows.reshape(tiny.N_HEAD, -1, 2, tiny.N_EMBD).swapaxes(1, 2).reshape(rows.shape)
                state[f"model.layers.{i}.{theirs}.weight"] = rows
                layer.get_submodule(theirs).register_forward_pre_hook(self._hook(name))
        self.model.load_state_dict(state)

    def _hook(self, name: str) -> Any:
        def add(_module: Any, inputs: Any) -> None:
            rows = inputs[0][0].detach().double().numpy()[self.counted]
            self.sums[name] = self.sums[name] + (rows**2).sum(axis=0) if self.sums[name].size else (rows**2).sum(axis=0)

        return add

    def see(self, before: list[int], image: np.ndarray, after: list[int], *, skip: int) -> int:
        """Count all rows but the first ``skip``; return the likeliest next token."""
        import torch

        table = self.model.get_input_embeddings()
        with torch.inference_mode():
            parts = [table(torch.tensor(before)), torch.tensor(image), table(torch.tensor(after, dtype=torch.long))]
            self.counted = slice(skip, None)
            return int(self.model(inputs_embeds=torch.cat(parts)[None]).logits[0, -1].argmax())


@pytest.mark.export
def test_values_are_what_pytorch_sees_going_into_each_matrix(
    bundle_folder: Path, gguf_path: Path, tower: VisionTower, measured: Importance
) -> None:
    pytest.importorskip("torch", reason="needs the extra [export]")
    manifest = open_bundle(bundle_folder).manifest
    template = prompt_template(manifest.prompt.template)
    reference = TorchSums(gguf_path)
    n_rows = n_text = 0
    with LanguageModel(gguf_path, vocab_only=True) as vocabulary:
        before = [vocabulary.bos, *vocabulary.tokenize(template.before_image)]
        asked = [manifest.rating.question, *manifest.rating.attributes.values()]
        questions = [vocabulary.tokenize(template.after_image(q)) for q in asked]
        critique = vocabulary.tokenize(template.after_image(manifest.prompt.critique))
    for _, photo in PHOTOS:
        image = tower.encode(preprocess(photo, manifest.image))
        n_image = len(before) + len(image)
        answer: list[int] = []
        while len(answer) < N_ANSWER:
            token = reference.see(before, image, critique + answer, skip=1000)
            if token == tiny.EOS:
                break
            answer.append(token)
        reference.see(before, image, [], skip=0)
        for question in [*questions, critique + answer]:
            reference.see(before, image, question, skip=n_image)
            n_text += len(question)
        n_rows += n_image
    n_rows += n_text
    assert answer
    assert measured.n_positions == n_rows
    for name in WEIGHTS:
        # llama.cpp keeps K and V in F16
        np.testing.assert_allclose(measured.values[name], reference.sums[name] / n_rows, rtol=3e-3, err_msg=name)


def test_every_matrix_of_every_layer_is_measured_on_every_row(measured: Importance) -> None:
    assert sorted(measured.values) == sorted(WEIGHTS)
    assert set(measured.n_rows.values()) == {measured.n_positions}
    assert measured.photos == ("a.jpg", "b.jpg")
    for name, values in measured.values.items():
        assert values.dtype == np.float32
        assert values.shape == (tiny.N_FF if "ffn_down" in name else tiny.N_EMBD,)
        assert values.min() > 0


def test_output_is_measured_only_if_asked(watch: Callable[..., Importance], measured: Importance) -> None:
    found = watch(with_output=True)
    assert set(found.values) == {*WEIGHTS, "output.weight"}
    assert found.n_rows["output.weight"] == measured.n_positions


def test_rows_of_the_image_count(watch: Callable[..., Importance], measured: Importance) -> None:
    other = watch([("c.jpg", drawn_photo(3)), ("d.jpg", drawn_photo(4))], n_answer=0)
    same_text = watch(n_answer=0)
    assert other.n_positions == same_text.n_positions
    changed = np.abs(other.values["blk.0.attn_q.weight"] / same_text.values["blk.0.attn_q.weight"] - 1)
    assert np.median(changed) > 1e-3
    assert measured.n_positions > same_text.n_positions  # its own answer


def test_a_photo_seen_twice_counts_twice_and_moves_no_mean(watch: Callable[..., Importance]) -> None:
    once, twice = watch(PHOTOS[:1]), watch([*PHOTOS[:1], *PHOTOS[:1]])
    assert twice.n_positions == 2 * once.n_positions
    for name in WEIGHTS:
        np.testing.assert_allclose(twice.values[name], once.values[name], rtol=1e-5)


def test_progress_ends_at_one(watch: Callable[..., Importance]) -> None:
    shares: list[float] = []
    watch(n_answer=0, progress=shares.append)
    assert shares == [0.0, 0.5, 1.0]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_in_the_middle_of_a_photo(
    watch: Callable[..., Importance], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_nodes = 0

    class Interrupted(activations.ColumnSums):
        def __call__(self, address: int, ask: bool) -> bool:
            nonlocal n_nodes
            n_nodes += 1
            if n_nodes == 10:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(address, ask)

    monkeypatch.setattr(importance, "ColumnSums", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        watch()
    assert n_nodes < 100


def test_what_is_not_finite_is_named(watch: Callable[..., Importance], gguf_path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(gguf_path.read_bytes())
    reader = gguf.GGUFReader(broken, "r+")
    next(t for t in reader.tensors if t.name == "blk.1.ffn_up.weight").data[0, 0] = np.inf
    reader.data.flush()
    with pytest.raises(InferenceError, match=r"blk\.1\.ffn_down\.weight"):
        watch(llm=broken)


def test_another_layout_of_tensors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = dict(activations._Tensor._fields_)
    for left_out in ("buffer", "op_params", "view_offs"):
        shifted = type("_Tensor", (ctypes.Structure,), {"_fields_": [f for f in fields.items() if f[0] != left_out]})
        monkeypatch.setattr(activations, "_Tensor", shifted)
        with pytest.raises(InferenceError, match="lays out its tensors otherwise"):
            activations._mat_mul_op.__wrapped__()


def test_no_photos_are_refused(watch: Callable[..., Importance]) -> None:
    with pytest.raises(UsageError, match="no photos"):
        watch([])


def test_a_matrix_of_another_model_does_not_fit(measured: Importance) -> None:
    n_in = {name: len(values) for name, values in measured.values.items()}
    measured.check_fits(n_in, "model.gguf")
    with pytest.raises(UsageError, match=r"model\.gguf.*blk\.1\.ffn_down"):
        measured.check_fits({**n_in, "blk.1.ffn_down.weight": 96}, "model.gguf")
    with pytest.raises(UsageError, match="no such tensor"):
        measured.check_fits(dict(list(n_in.items())[:-1]), "model.gguf")


def test_the_writer_uses_it_as_llama_cpp_does(measured: Importance, gguf_path: Path, tmp_path: Path) -> None:
    plain, ours, theirs = (tmp_path / name for name in ("plain.gguf", "ours.gguf", "theirs.gguf"))
    write_language(GgufSource(gguf_path), {"Q4_0": plain})
    write_language(GgufSource(gguf_path), {"Q4_0": ours}, importance=measured.values)
    llama_quantize.quantize_with_llama([llama_quantize.Job(gguf_path, theirs, FILE_TYPES["Q4_0"], measured.values)])
    tensors = llama_quantize.tensors(ours)
    assert tensors == llama_quantize.tensors(theirs)
    assert tensors["blk.0.attn_q.weight"] != llama_quantize.tensors(plain)["blk.0.attn_q.weight"]


# The file


@pytest.fixture
def written(measured: Importance, tmp_path: Path) -> Path:
    path = tmp_path / "imatrix.gguf"
    write_imatrix(measured, path)
    return path


def test_what_was_written_is_read(measured: Importance, written: Path) -> None:
    found = read_imatrix(written)
    assert found.photos == measured.photos
    assert found.n_rows == measured.n_rows
    for name in WEIGHTS:
        np.testing.assert_allclose(found.values[name], measured.values[name], rtol=1e-6)
    assert [p.name for p in written.parent.iterdir()] == [written.name]


class GgmlContext(ctypes.Structure):
    _fields_ = (("n_bytes", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class GgufParams(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))


@pytest.fixture(scope="module")
def ggml() -> Any:
    """The C functions with which llama-imatrix writes and llama-quantize reads."""
    activations._mat_mul_op()  # loads the library
    lib = ctypes.CDLL(activations._ggml()._name)
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
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def test_llama_cpp_reads_our_file(ggml: Any, measured: Importance, written: Path) -> None:
    tensors = ctypes.c_void_p()
    file = ggml.gguf_init_from_file(str(written).encode(), GgufParams(False, ctypes.addressof(tensors)))
    try:
        key = ggml.gguf_find_key
        assert ggml.gguf_get_n_kv(file) == 4
        assert ggml.gguf_get_val_str(file, key(file, b"general.type")) == b"imatrix"
        assert ggml.gguf_get_arr_str(file, key(file, b"imatrix.datasets"), 1) == b"b.jpg"
        assert ggml.gguf_get_val_u32(file, key(file, b"imatrix.chunk_count")) == 2
        assert ggml.gguf_get_val_u32(file, key(file, b"imatrix.chunk_size")) == measured.n_positions // 2
        assert ggml.gguf_get_n_tensors(file) == 2 * len(WEIGHTS)
        for name in WEIGHTS:
            sums, counts = (ggml.ggml_get_tensor(tensors, f"{name}{end}".encode()) for end in (".in_sum2", ".counts"))
            assert ggml.ggml_nelements(counts) == 1
            assert ggml.ggml_get_data_f32(counts)[0] == measured.n_positions
            n_in = len(measured.values[name])
            assert ggml.ggml_nelements(sums) == n_in
            values = np.ctypeslib.as_array(ggml.ggml_get_data_f32(sums), (n_in,)) / measured.n_positions
            np.testing.assert_allclose(values, measured.values[name], rtol=1e-6)
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


OLD_DAT = b"\2\0\0\0\x13\0\0\0blk.0.attn_q.weight\5\0\0\0"


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda p: None, UsageError, "no such file"),
        (lambda p: p.mkdir(), UsageError, "cannot be read"),
        (lambda p: p.write_bytes(b""), UsageError, "not an importance matrix"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" * 9), UsageError, "not an importance matrix"),
        (lambda p: p.write_bytes(OLD_DAT), UsageError, "old .dat format"),
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
    measured: Importance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="cannot be written"):
        write_imatrix(measured, tmp_path / "missing" / "imatrix.gguf")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(BundleError, match="No space left"):
        write_imatrix(measured, tmp_path / "imatrix.gguf")
    assert not list(tmp_path.iterdir())


# In a bundle


@pytest.fixture
def bundle_with_imatrix(measured: Importance, tmp_path: Path) -> Path:
    folder = tiny.write_bundle(tmp_path / "calibrated", name="calibrated")
    write_imatrix(measured, folder / "imatrix.gguf")
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
