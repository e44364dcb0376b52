"""LoRA checkpoints are merged as PEFT merges them, whatever rows are asked for; what cannot be merged is refused."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import tiny_layouts
import tiny_llava
import torch
from aesedge_export.checkpoint.checkpoint import open_checkpoint
from aesedge_export.checkpoint.lora import MergedTensor, model_name
from aesedge_export.checkpoint.weights import open_file
from safetensors.torch import load_file, save_file

from aesedge.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.export

QUERY = "language_model.layers.0.self_attn.q_proj.weight"
GATE = "language_model.layers.1.mlp.gate_proj.weight"
ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture(scope="module")
def pristine(hf: Path, tmp_path_factory: pytest.TempPathFactory) -> tiny_layouts.Made:
    return tiny_layouts.make_lora(hf, tmp_path_factory.mktemp("lora"))


@pytest.fixture
def made(pristine: tiny_layouts.Made, tmp_path: Path) -> tiny_layouts.Made:
    """Return a copy of the adapter's folder, beside nothing else; the base is where it was."""
    lora = shutil.copytree(pristine.folder, tmp_path / "adapter")
    return tiny_layouts.Made(lora, pristine.same_as, pristine.options)


def edit_adapter(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / ADAPTER)
    edit(tensors)
    save_file(tensors, folder / ADAPTER)


def refused(made: tiny_layouts.Made, *words: str, **options: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(made.folder, **{**made.options, **options})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def delta(made: tiny_layouts.Made, module: str) -> torch.Tensor:
    """Return B @ A of the adapter, float32."""
    factors = load_file(made.folder / ADAPTER)
    name = f"base_model.model.model.{module}.lora_"
    return factors[f"{name}B.weight"] @ factors[f"{name}A.weight"]


def added(made: tiny_layouts.Made, hf: Path, canonical: str) -> torch.Tensor:
    merged, base = open_checkpoint(made.folder, **made.options), open_checkpoint(hf)
    return merged.tensor(canonical).float() - base.tensor(canonical).float()


def test_rows_do_not_depend_on_what_else_is_read(tmp_path: Path) -> None:
    # As large as it takes for a product of matrices to be computed in another order where its shape is another.
    generator = torch.Generator().manual_seed(2)
    n_out, n_in, rank = 2100, 700, 64
    tensors = {
        "w": torch.randn((n_out, n_in), generator=generator).half(),
        "a": torch.randn((rank, n_in), generator=generator),
        "b": torch.randn((n_out, rank), generator=generator).bfloat16(),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    found = open_file(tmp_path / "m.safetensors")
    merged = MergedTensor(found["w"], found["a"], found["b"], 0.5)
    whole = merged.tensor()
    assert whole.dtype == torch.float16
    exact = tensors["w"].double() + tensors["b"].double() @ tensors["a"].double() * 0.5
    # Half a step of float16, and float32's noise.
    assert (whole.double() - exact).abs().max() <= exact.abs().max() * 2**-11 * 1.001
    for n in (300, 512, 513, 2000):
        chunks = [merged.rows(start, min(start + n, n_out)) for start in range(0, n_out, n)]
        assert torch.equal(torch.cat(chunks), whole)
    for start, stop in ((0, 1), (511, 513), (1024, 1025), (2099, 2100), (5, 5)):
        assert torch.equal(merged.rows(start, stop), whole[start:stop])


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({}, 2.0),
        ({"lora_alpha": 4}, 0.5),
        ({"use_rslora": True}, 16 / math.sqrt(8)),
        ({"alpha_pattern": {"q_proj": 40}}, 5.0),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 40}}, 5.0),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 40, ".*v_proj": 80}}, 2.0),
        ({"r": 99, "rank_pattern": {".*_proj": 8}}, 2.0),
    ],
)
def test_scaling(made: tiny_layouts.Made, hf: Path, config: dict[str, Any], scaling: float) -> None:
    edit_adapter(made.folder, **config)
    expected = delta(made, "layers.0.self_attn.q_proj") * scaling
    # Rounded to float16 at weights of about 0.3.
    assert torch.allclose(added(made, hf, QUERY), expected, rtol=0, atol=3e-4)
    assert expected.abs().max() > 0.01


def test_the_sum_is_rounded_once(made: tiny_layouts.Made, hf: Path) -> None:
    merged, base = open_checkpoint(made.folder, **made.options), open_checkpoint(hf)
    exact = base.tensor(GATE).float() + delta(made, "layers.1.mlp.gate_proj") * 2
    assert torch.equal(merged.tensor(GATE), exact.half())
    assert merged.dtype(GATE) == base.dtype(GATE) == torch.float16
    assert torch.equal(merged.rows(GATE, 100, 300), merged.tensor(GATE)[100:300])


def test_what_was_trained_as_a_whole_replaces_the_base_s(made: tiny_layouts.Made, hf: Path) -> None:
    head = open_checkpoint(hf).tensor("lm_head.weight") * 2
    bias = torch.full((tiny_llava.N_EMBD,), 0.25).half()
    # modules_to_save, in PEFT's file and in its memory, and what it keeps of the base.
    for spelled in ("lm_head.weight", "lm_head.modules_to_save.default.weight", "lm_head.modules_to_save.weight"):
        tensors = {n: t for n, t in load_file(made.folder / ADAPTER).items() if "lm_head" not in n}
        tensors |= {f"base_model.model.{spelled}": head, "base_model.model.lm_head.original_module.weight": head * 3}
        save_file(tensors, made.folder / ADAPTER)
        trained = torch.load(made.folder / "non_lora_trainables.bin", weights_only=True)
        trained["base_model.model.model.mm_projector.2.bias"] = bias
        torch.save(trained, made.folder / "non_lora_trainables.bin")
        checkpoint = open_checkpoint(made.folder, **made.options)
        assert torch.equal(checkpoint.tensor("lm_head.weight"), head)
        assert torch.equal(checkpoint.tensor("multi_modal_projector.linear_2.bias"), bias)


def test_an_adapter_of_the_tower(made: tiny_layouts.Made, hf: Path) -> None:
    name = "model.vision_tower.vision_tower.vision_model.encoder.layers.0.self_attn.k_proj"
    a, b = torch.ones((8, 128)), torch.full((128, 8), 0.01)
    change(
        made.folder,
        lambda t: t.update({f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}),
    )
    added_there = added(made, hf, "vision_tower.encoder.layers.0.self_attn.k_proj.weight")
    assert torch.allclose(added_there, b @ a * 2, rtol=0, atol=1e-3)
    # A tower that was trained so is not stock CLIP any more.
    tiny_llava.edit_config(made.folder, unfreeze_mm_vision_tower=True)
    open_checkpoint(made.folder, **made.options)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "model.layers.0.mlp.up_proj.lora_A.weight"),
        ("base_model.model.lm_head.weight", "lm_head.weight"),
        ("base_model.model.model.mm_projector.0.bias", "model.mm_projector.0.bias"),
        ("model.mm_projector.0.bias", "model.mm_projector.0.bias"),
        ("base_model.model.language_model.lm_head.weight", "language_model.lm_head.weight"),
        ("base_model.model.model.language_model.norm.weight", "model.language_model.norm.weight"),
        ("base_model.model.model.embed_tokens.base_layer.weight", "model.embed_tokens.weight"),
        (
            "base_model.model.multi_modal_projector.modules_to_save.linear_1.weight",
            "multi_modal_projector.linear_1.weight",
        ),
    ],
)
def test_names_of_peft(stored: str, name: str) -> None:
    assert model_name(stored) == name


def test_where_the_base_is_looked_for(made: tiny_layouts.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = made.options["base"]
    made = tiny_layouts.Made(made.folder, made.same_as, {k: v for k, v in made.options.items() if k != "base"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    edit_adapter(made.folder, base_model_name_or_path="lmsys/vicuna-tiny")
    refused(made, str(made.folder), "'lmsys/vicuna-tiny' is not on this machine", "--base")
    cached = tiny_layouts.into_hub_cache(base, "lmsys/vicuna-tiny", tmp_path / "hub")
    assert open_checkpoint(made.folder, **made.options).base == cached
    beside = shutil.copytree(base, tmp_path / "vicuna-tiny")
    assert open_checkpoint(made.folder, **made.options).base == beside
    edit_adapter(made.folder, base_model_name_or_path=str(base))
    assert open_checkpoint(made.folder, **made.options).base == base
    for nothing in ("", None, "/no/where", "../..", "a--b/c", "\\\\server\\share"):
        edit_adapter(made.folder, base_model_name_or_path=nothing)
        refused(made, "is not on this machine")


def test_a_base_that_does_not_fit(made: tiny_layouts.Made, tmp_path: Path) -> None:
    refused(made, "no such folder", base=tmp_path / "nowhere")
    refused(made, "LoRA checkpoint itself", base=made.folder)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    refused(made, str(bare), "no weight files", base=bare)
    shallow = shutil.copytree(made.options["base"], tmp_path / "shallow")
    tensors = load_file(shallow / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "layers.1." not in n}, shallow / "model.safetensors")
    refused(made, "layers.1.", "has no target in the base model", "lora_", base=shallow)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("use_dora", True),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("layer_replication", [[0, 2]]),
        ("init_lora_weights", "pissa"),
    ],
)
def test_adapters_that_are_merged_otherwise(made: tiny_layouts.Made, key: str, value: object) -> None:
    edit_adapter(made.folder, **{key: value})
    refused(made, "adapter_config.json", f"{key} is {value!r}", "merge_and_unload")


PROJ = "base_model.model.model.layers.0.mlp.down_proj"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.pop(f"{PROJ}.lora_A.weight"), ["down_proj.lora_B.weight", "no other half"]),
        (lambda t: t.update({f"{PROJ}.lora_B.weight": torch.ones(255, 8)}), ["do not fit", "[255, 8]", "[256, 512]"]),
        (lambda t: t.update({f"{PROJ}.lora_A.weight": torch.ones(4, 512)}), ["do not fit", "[4, 512]"]),
        (lambda t: t.update({f"{PROJ}.lora_A.other.weight": torch.ones(8, 512)}), ["more than one adapter"]),
        (lambda t: t.update({f"{PROJ}.lora_magnitude_vector": torch.ones(256)}), ["magnitude_vector", "merged here"]),
        (lambda t: t.update({f"{PROJ}.lora_embedding_A": torch.ones(8, 2)}), ["embedding_A", "merged here"]),
        (lambda t: t.update({"base_model.model.model.what.weight": torch.ones(2)}), ["model.what.weight", "belong"]),
        (
            lambda t: t.update({"base_model.model.model.norm.lora_A.weight": torch.ones(8, 2)}),
            ["norm.lora_A.weight", "no other half"],
        ),
    ],
)
def test_parts_that_do_not_fit(
    made: tiny_layouts.Made, edit: Callable[[dict[str, torch.Tensor]], object], words: list[str]
) -> None:
    change(made.folder, edit)
    refused(made, str(made.folder), *words)


def test_another_rank_than_stated(made: tiny_layouts.Made) -> None:
    edit_adapter(made.folder, r=16)
    refused(made, "has rank 8", "says 16")
    edit_adapter(made.folder, r=8, lora_alpha="many")
    refused(made, "lora_alpha is 'many'")


def test_incomplete_and_damaged_adapters(made: tiny_layouts.Made) -> None:
    kept = (made.folder / ADAPTER).read_bytes()
    (made.folder / ADAPTER).write_bytes(kept[:1000])
    refused(made, ADAPTER, "damaged")
    (made.folder / ADAPTER).unlink()
    refused(made, "no adapter_model.safetensors or adapter_model.bin")
    (made.folder / ADAPTER).write_bytes(kept)
    (made.folder / "adapter_config.json").write_text("{")
    refused(made, "adapter_config.json: not valid JSON")
    (made.folder / "adapter_config.json").unlink()
    refused(made, "adapter_config.json: is missing")


def test_a_missing_projector_is_named(made: tiny_layouts.Made) -> None:
    (made.folder / "non_lora_trainables.bin").unlink()
    refused(made, "the projector is not complete")


def test_an_adapter_that_is_not_finite(made: tiny_layouts.Made) -> None:
    change(made.folder, lambda t: t[f"{PROJ}.lora_B.weight"].view(-1)[3].fill_(math.nan))
    checkpoint = open_checkpoint(made.folder, **made.options)
    with pytest.raises(CheckpointError, match=r"adapter_model.safetensors: '.*down_proj.lora_B.weight' .*not finite"):
        checkpoint.tensor("language_model.layers.0.mlp.down_proj.weight")
    # Finite factors whose product is beyond float16.
    change(made.folder, lambda t: t[f"{PROJ}.lora_B.weight"].fill_(1e6))
    checkpoint = open_checkpoint(made.folder, **made.options)
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.rows("language_model.layers.0.mlp.down_proj.weight", 0, 4)


def test_an_adapter_beside_a_whole_model(made: tiny_layouts.Made, hf: Path) -> None:
    shutil.copy(hf / "model.safetensors", made.folder)
    refused(made, "a whole model and a LoRA adapter")


def test_a_base_for_a_whole_model(hf: Path) -> None:
    with pytest.raises(CheckpointError, match="only LoRA checkpoints have a base"):
        open_checkpoint(hf, base=hf)
