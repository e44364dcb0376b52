"""The importance matrix is what PyTorch sees going into every matrix, photos included, and is used as in llama.cpp."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import TYPE_CHECKING, Any

import gguf
import llama_quantize
import numpy as np
import pytest
import tiny
from aesedge_export.language import activations, importance
from aesedge_export.language.gguf_source import GgufSource
from aesedge_export.language.importance import Calibration, Importance, gather
from aesedge_export.language.language_gguf import write_language
from conftest import drawn_photo

from aesedge.bundle.bundle import open_bundle
from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.errors import InferenceError, UsageError
from aesedge.image import preprocess
from aesedge.llm import LanguageModel
from aesedge.llm.prompt import prompt_template
from aesedge.vision.tower import VisionTower

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
    fields = dict(activations.GgmlTensor._fields_)
    for left_out in ("buffer", "op_params", "view_offs"):
        shifted = type("GgmlTensor", (ctypes.Structure,), {"_fields_": [f for f in fields.items() if f[0] != left_out]})
        monkeypatch.setattr(activations, "GgmlTensor", shifted)
        with pytest.raises(InferenceError, match="lays out its tensors differently"):
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
    llama_quantize.quantize_with_llama(
        [llama_quantize.Job(gguf_path, theirs, GGUF_TYPES["Q4_0"].ftype, measured.values)]
    )
    tensors = llama_quantize.tensors(ours)
    assert tensors == llama_quantize.tensors(theirs)
    assert tensors["blk.0.attn_q.weight"] != llama_quantize.tensors(plain)["blk.0.attn_q.weight"]
