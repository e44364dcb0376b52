"""What cannot be exported is refused in one line that names it; nothing half-written is left."""

from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import tiny_layouts
import tiny_llava
import torch
from aesedge_export import export_checkpoint
from aesedge_export.checkpoint.checkpoint import open_checkpoint
from aesedge_export.checkpoint.vocabulary import read_vocabulary
from aesedge_export.questions import default_rating
from safetensors.torch import load_file, save_file

from aesedge.errors import BundleFormatError, CheckpointError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.export

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "checkpoint")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def refused(folder: Path, *words: str, **options: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_not_a_checkpoint(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such folder")
    refused(tmp_path, "no config.json")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "not valid JSON")
    (tmp_path / "config.json").write_text("[]")
    refused(tmp_path, "not a configuration")
    (tmp_path / "config.json").write_text("{}")
    refused(tmp_path, "no weight files")


def test_a_text_model_has_no_projector(folder: Path) -> None:
    change_weights(folder, lambda t: [t.pop(n) for n in list(t) if "projector" in n or "vision" in n])
    tiny_llava.edit_config(folder, model_type="llama", architectures=["LlamaForCausalLM"])
    refused(folder, "LlamaForCausalLM", "projector")


def test_a_missing_projector_is_named(folder: Path) -> None:
    change_weights(folder, lambda t: [t.pop(n) for n in list(t) if "projector" in n])
    refused(folder, "the projector is not complete", "4 tensors", "multi_modal_projector.linear_1.weight")


def test_a_missing_layer_is_named(folder: Path) -> None:
    change_weights(folder, lambda t: [t.pop(n) for n in list(t) if "language_model.model.layers.1.mlp" in n])
    refused(folder, "the language model is not complete", "layers.1.mlp.gate_proj")


def test_a_missing_tower_names_the_way_out(pristine: Path, tmp_path: Path) -> None:
    original = tiny_llava.write_original(pristine, tmp_path / "original")
    clip = tiny_llava.split_off_tower(original, tmp_path / "clip")
    refused(original, tiny_llava.CLIP_NAME, "as the vision tower")
    (clip / "model.safetensors").unlink()
    refused(original, "no weight files of the vision tower", vision_tower=clip)


def test_a_tower_of_unknown_shape_names_the_way_out(pristine: Path, tmp_path: Path) -> None:
    original = tiny_llava.write_original(pristine, tmp_path / "original")
    tiny_llava.edit_config(original, mm_vision_tower="laion/CLIP-ViT-H-14")
    refused(original, "laion/CLIP-ViT-H-14", "vision tower")


def test_a_clip_folder_of_another_kind(pristine: Path, tmp_path: Path) -> None:
    original = tiny_llava.write_original(pristine, tmp_path / "original")
    clip = tiny_llava.split_off_tower(original, tmp_path / "clip")
    refused(original, "no such folder", vision_tower=tmp_path / "nowhere")
    tiny_llava.edit_config(clip, model_type="siglip")
    refused(original, str(clip), "not a CLIP model but 'siglip'", vision_tower=clip)
    tiny_llava.edit_config(clip, model_type="clip")
    save_file({"text_model.final_layer_norm.weight": torch.ones(4)}, clip / "model.safetensors")
    refused(original, "the vision tower is not complete", "--vision-tower", vision_tower=clip)


def test_a_trained_tower_is_not_replaced_by_stock_clip(pristine: Path, tmp_path: Path) -> None:
    for tower in ("separate", "beside", "subfolder"):
        made = tiny_layouts.make_original(pristine, tmp_path / tower, tower=tower)
        open_checkpoint(made.folder, **made.options)
        tiny_llava.edit_config(made.folder, unfreeze_mm_vision_tower=True)
        refused(made.folder, str(made.folder), "unfreeze_mm_vision_tower", "stock CLIP", **made.options)


def test_a_trained_tower_of_the_base(pristine: Path, tmp_path: Path) -> None:
    made = tiny_layouts.make_lora(pristine, tmp_path / "lora", base="original")
    tiny_llava.edit_config(made.folder, unfreeze_mm_vision_tower=True)
    # The base's tower is the one before this training.
    refused(made.folder, str(made.folder), "unfreeze_mm_vision_tower", **made.options)
    tiny_llava.edit_config(made.options["base"], unfreeze_mm_vision_tower=True)
    open_checkpoint(made.folder, **made.options)


def test_a_tower_without_its_last_layers(pristine: Path, tmp_path: Path) -> None:
    # The selected layer is counted from the last one of the tower that is named.
    original = tiny_llava.write_original(pristine, tmp_path / "original")
    tiny_llava.edit_config(original, mm_vision_tower="/data/clip-vit-large-patch14-336")
    refused(original, "3 layers", "clip-vit-large-patch14-336' 24")


def test_a_projector_alone_without_its_base(pristine: Path, tmp_path: Path) -> None:
    made = tiny_layouts.make_projector(pristine, tmp_path / "made")
    refused(made.folder, "only a projector", "--base")


def test_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.model").rename(folder / "kept")
    refused(folder, "tokenizer.model is missing", "tokenizer.json")
    (folder / "tokenizer.model").write_bytes(b"not a tokenizer")
    refused(folder, "tokenizer.model", "not a sentencepiece model")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_type": "unigram"}, "not a BPE tokenizer"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalises text"),
        ({"add_dummy_prefix": False}, "add_dummy_prefix=True"),
    ],
)
def test_a_tokenizer_that_llama_cpp_would_read_otherwise(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    tiny_llava.train_tokenizer(tmp_path / "tokenizer.model", **options)
    with pytest.raises(CheckpointError, match=words):
        read_vocabulary(tmp_path, 1000, {"bos": 1, "eos": 2, "pad": None})


def test_more_tokens_than_rows(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="300 rows"):
        read_vocabulary(folder, 300, {"bos": 1, "eos": 2, "pad": None})
    with pytest.raises(CheckpointError, match="token id 9999 for eos"):
        read_vocabulary(folder, 1000, {"bos": 1, "eos": 9999, "pad": None})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_config": {"model_type": "mistral"}}, "'mistral'"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "'siglip_vision_model'"),
        ({"vision_feature_select_strategy": "full"}, "'full'"),
        ({"vision_feature_layer": [-2, -5]}, "only one layer"),
        ({"vision_feature_layer": 9}, "not one of the tower's 3"),
        ({"projector_hidden_act": "relu"}, "'relu'"),
        ({"text_config": {"attention_bias": True}}, "attention_bias"),
        ({"text_config": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}}, "'yarn'"),
        ({"text_config": {"hidden_size": 512}}, "has the shape"),
        ({"text_config": "llama"}, "not one of LLaVA-1.5"),
        (
            {"model_type": "llava_next", "architectures": ["LlavaNextForConditionalGeneration"]},
            "LlavaNextForConditional",
        ),
        ({"model_type": "vipllava"}, "'vipllava'"),
        ({"text_config": {"vocab_size": 384}}, "has the shape"),
    ],
)
def test_other_architectures(folder: Path, changes: dict[str, Any], words: str) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    merged = {k: {**config[k], **v} if isinstance(v, dict) else v for k, v in changes.items()}
    tiny_llava.edit_config(folder, **merged)
    refused(folder, str(folder), words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mm_projector_type": "linear"}, "'linear'"),
        ({"mm_projector_type": "mlp3x_gelu"}, "'mlp3x_gelu'"),
        ({"mm_projector_type": "qformer"}, "'qformer'"),
        ({"model_type": "llava_mistral"}, "'llava_mistral'"),
        ({"model_type": "mpt", "architectures": ["LlavaMptForCausalLM"]}, "LlavaMptForCausalLM"),
        ({"image_aspect_ratio": "anyres"}, "'anyres'"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "'spatial_unpad'"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end"),
        ({"mm_vision_select_feature": "cls_patch"}, "'cls_patch'"),
    ],
)
def test_other_kinds_of_llava(pristine: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    original = tiny_llava.write_original(pristine, tmp_path / "original")
    tiny_llava.edit_config(original, **changes)
    refused(original, words)


def test_a_tensor_that_does_not_belong_there(folder: Path) -> None:
    change_weights(folder, lambda t: t.update({"image_newline": torch.zeros(4)}))
    refused(folder, "image_newline")


def test_weights_that_are_not_floats(folder: Path) -> None:
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    change_weights(folder, lambda t: t.update({name: t[name].to(torch.float8_e4m3fn)}))
    refused(folder, "model.safetensors", name, "float8_e4m3fn", "unquantized")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"image_mean": [1, 2]}', '{"image_std": "x"}', '{"image_std": [null, 1, 1]}']
)
def test_a_damaged_preprocessor(folder: Path, content: str) -> None:
    (folder / "preprocessor_config.json").write_text(content)
    refused(folder, "preprocessor_config.json")


def test_damaged_weight_files(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(folder, "model.safetensors", "damaged")
    path.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "m-1", "b": "m-2"}}))
    refused(folder, "2 of 2 weight files are missing", "m-1, m-2")
    (folder / "model.safetensors.index.json").write_text("[]")
    refused(folder, "not a weight index")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.model", "preprocessor_config.json"])
def test_files_that_git_lfs_did_not_fetch(folder: Path, name: str) -> None:
    (folder / name).write_bytes(LFS_POINTER)
    refused(folder, name, "is a Git LFS pointer", "git lfs pull")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_weights_that_git_lfs_did_not_fetch(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(LFS_POINTER)
    refused(folder, name, "is a Git LFS pointer", "git lfs pull")


def test_code_in_a_pickled_file_is_not_run(folder: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (folder.joinpath("ran").touch, ())

    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"weight": Hostile()}, file, protocol=2)
    refused(folder, "pytorch_model.bin", "holds more than tensors")
    torch.save({"weight": Hostile()}, folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin", "holds more than tensors")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "not finite"), (1e5, "65504")])
def test_values_that_a_bundle_cannot_hold(folder: Path, tmp_path: Path, value: float, words: str) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        name = "language_model.model.layers.1.mlp.up_proj.weight"
        tensors[name] = tensors[name].float()
        tensors[name][3, 5] = value

    change_weights(folder, spoil)
    with pytest.raises(CheckpointError, match=words):
        export_checkpoint(folder, tmp_path / "out", gguf_types=["F16"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gguf_types": ["q9_9"]}, "unknown quantization type 'q9_9'"),
        ({"gguf_types": []}, "no quantization type"),
        ({"gguf_types": ["q8_0"], "default_gguf": "F16"}, "default type F16 is not among"),
        ({"vision_types": ["int3"]}, "unknown vision precision"),
        ({"vision_types": []}, "no vision precision"),
        ({"name": "../up"}, "not a bundle name"),
    ],
)
def test_wrong_calls(folder: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        export_checkpoint(folder, tmp_path / "out", **options)


def test_labels_that_begin_alike_are_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    rating = default_rating()
    labels = {**rating.labels, "low": ["High"]}
    with pytest.raises(BundleFormatError, match="begin with the same tokens"):
        export_checkpoint(folder, tmp_path / "out", rating=type(rating)(**{**vars_of(rating), "labels": labels}))


def vars_of(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
