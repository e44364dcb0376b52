"""A pair that llama.cpp runs becomes a bundle that answers, by the command, without PyTorch, touching nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny
from aesedge_export import disk_space
from aesedge_export.llama_cpp_pair import import_proof
from aesedge_export.llama_cpp_pair.baseline_memory import find_mmproj
from aesedge_export.llama_cpp_pair.import_cli import name_of
from aesedge_export.llama_cpp_pair.importer import import_pair
from aesedge_export.llama_cpp_pair.mtmd_process import MtmdProcess, mtmd_version
from conftest import drawn_photo
from tiny import plain

import aesedge
from aesedge.bundle.bundle import open_bundle
from aesedge.cli import main
from aesedge.errors import BundleError, CheckpointError, ParityError, UsageError
from aesedge.image import preprocess, read_image
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    from pathlib import Path

needs_libmtmd = pytest.mark.skipif(not mtmd_version(), reason="libmtmd is not in this llama-cpp-python")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    llm = tiny.write_gguf(folder / "tiny-llava.Q4_K_M.gguf")
    return llm, tiny.write_mmproj(folder / "mmproj-tiny-f16.gguf", tiny.tower_tensors())


def state(files: tuple[Path, ...]) -> list[tuple[bytes, int, int]]:
    return [(path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_nlink) for path in files]


def stages(fidelity: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {record["stage"]: record["figures"] for record in fidelity["stages"]}


def opened(folder: Path, **options: Any) -> Any:
    return aesedge.load_model(folder, threads=1, device="cpu", **options)


def test_the_command_makes_a_bundle_that_scores_a_photo(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(pair)
    assert main(["import", *map(str, reversed(pair)), "--license", "CC0-1.0", "--vision", "fp32"]) == 0
    assert state(pair) == before
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "read files: done",
        "copy F32: done",
        "copy the mmproj: done",
        "vision fp32: done",
        *(["parity: libmtmd: done"] if mtmd_version() else []),
        "hashes: done",
    ]
    assert "llm-f32.gguf" in shown.out
    bundle = open_bundle("tiny-llava")
    assert [problem for _, problem in bundle.verify()] == ["", ""]
    assert (bundle.folder / "llm-f32.gguf").read_bytes() == pair[0].read_bytes()
    manifest = bundle.manifest
    assert manifest.license == "CC0-1.0"
    assert manifest.source.layout == "llama.cpp pair"
    assert manifest.source.checkpoint == f"{pair[0].name} + {pair[1].name}"
    assert manifest.image_tokens.max == tiny.N_IMAGE_TOKENS
    assert manifest.image.size == tiny.IMAGE_SIZE
    with opened(bundle.folder) as model:
        assert 0 <= model.look(SAMPLE_PHOTOS[0]).score().score <= 10


@needs_libmtmd
def test_the_proof_stands_in_the_manifest_and_on_the_screen(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", *map(str, pair), "--out", str(tmp_path / "b"), "--vision", "fp32"]) == 0
    fidelity = plain(open_bundle(tmp_path / "b").manifest.fidelity)
    assert fidelity["checked"] is True
    assert fidelity["reference"].startswith("libmtmd of llama-cpp-python")
    assert fidelity["photos"] == [path.name for path in SAMPLE_PHOTOS]
    found = stages(fidelity)
    # Every row but the first of both photos; measured: 0.9999992.
    assert found[import_proof.AGAINST_LIBMTMD]["n_rows"] == 2 * (tiny.N_IMAGE_TOKENS - 1)
    assert found[import_proof.AGAINST_LIBMTMD]["min_cosine"] >= 0.99999
    assert found[import_proof.LLAMA_CPP_AS_IT_IS]["min_cosine"] < 0.95
    text = " ".join(capsys.readouterr().out.split())
    for words in ("compared with libmtmd", "image embeddings against libmtmd", "0.9999", "25814 and 25817"):
        assert words in text


@needs_libmtmd
def test_a_bundle_can_see_as_llama_cpp_does(pair: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = import_pair(pair, tmp_path / "b", vision_types=["fp32"], reading="llama.cpp", photos=SAMPLE_PHOTOS[:1])
    assert manifest.source.layout == "llama.cpp pair, seen as llama.cpp does"
    found = stages(plain(manifest.fidelity))
    assert list(found) == [import_proof.AGAINST_LIBMTMD]
    assert found[import_proof.AGAINST_LIBMTMD]["n_rows"] == tiny.N_IMAGE_TOKENS
    picture = read_image(SAMPLE_PHOTOS[0])
    pixels = preprocess(picture, manifest.image)
    with VisionTower(tmp_path / "b" / "vision-fp32.onnx", device="cpu", n_threads=1) as tower:
        ours = tower.encode(pixels)
    with MtmdProcess(pair[1], n_threads=1) as reference:
        theirs = reference.encode(import_proof.pixel_levels(pixels, manifest.image)[None], manifest.n_embd)[0]
    assert np.abs(ours - theirs).max() <= 5e-3 * np.abs(theirs).max()


def test_other_precisions_are_measured_against_fp32(pair: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = import_pair(pair, tmp_path / "b", vision_types=["fp16", "int8"], photos=SAMPLE_PHOTOS)
    assert manifest.types("vision") == ["fp16", "int8"]
    assert manifest.defaults.vision == "int8"
    assert not (tmp_path / "b" / "vision-fp32.onnx").exists()
    for precision, limit in (("fp16", 0.9999), ("int8", 0.99)):
        assert limit <= plain(manifest.fidelity)["vision"][precision]["min_cosine"] < 1
    for precision in ("fp16", "int8"):
        with opened(tmp_path / "b", vision=precision) as model:
            assert 0 <= model.look(SAMPLE_PHOTOS[0]).score().score <= 10


@needs_libmtmd
def test_beyond_the_limit_nothing_is_written(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_proof, "limits", lambda _mmproj: {"min_cosine": 1.1})
    with pytest.raises(ParityError, match="image embeddings against libmtmd"):
        import_pair(pair, tmp_path / "b", vision_types=["fp32"], photos=SAMPLE_PHOTOS[:1])
    assert not list(tmp_path.iterdir())


def test_without_libmtmd_it_says_so_and_goes_on(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(import_proof, "mtmd_version", lambda: "")
    assert main(["import", *map(str, pair), "--out", str(tmp_path / "b"), "--vision", "fp32"]) == 0
    fidelity = plain(open_bundle(tmp_path / "b").manifest.fidelity)
    assert fidelity["checked"] is False
    assert "is not installed" in fidelity["reason"]
    assert "libmtmd, llama.cpp's own encoder, is not installed" in " ".join(capsys.readouterr().out.split())


def test_no_parity_measures_nothing(pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_proof, "MtmdProcess", None)
    assert main(["import", *map(str, pair), "--out", str(tmp_path / "b"), "--no-parity", "--vision", "fp32"]) == 0
    fidelity = json.loads((tmp_path / "b" / "manifest.json").read_bytes())["fidelity"]
    assert fidelity["checked"] is False
    assert fidelity["reason"] == "not asked for"


def test_several_types_are_compared_with_the_most_precise(pair: tuple[Path, Path], tmp_path: Path) -> None:
    half = tiny.write_gguf(tmp_path / "half.gguf", half=True)
    manifest = import_pair([half, *pair], tmp_path / "b", vision_types=["fp32"], photos=SAMPLE_PHOTOS[:1])
    assert manifest.types("llm") == ["F16", "F32"]
    assert manifest.defaults.gguf == "F16"
    figures = plain(manifest.fidelity)["types"]["F16"]
    assert figures["against"] == "F32"
    assert 0 < figures["mean_kl"] < 1e-2
    assert "F32" not in plain(manifest.fidelity)["types"]


def test_llama_cpp_s_form_of_the_tower_stays_beside_the_bundle(pair: tuple[Path, Path], tmp_path: Path) -> None:
    import_pair(pair, tmp_path / "b", parity=False, vision_types=["fp32"])
    kept = find_mmproj(open_bundle(tmp_path / "b"))
    assert kept.parent == tmp_path / "b"
    assert kept.read_bytes() == pair[1].read_bytes()


def test_link_shares_the_bytes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    llm = shutil.copy(pair[0], tmp_path / "llm.gguf")
    import_pair([llm, pair[1]], tmp_path / "b", parity=False, vision_types=["fp32"], link=True)
    assert (tmp_path / "b" / "llm-f32.gguf").samefile(llm)
    import_pair([llm, pair[1]], tmp_path / "c", parity=False, vision_types=["fp32"])
    assert not (tmp_path / "c" / "llm-f32.gguf").samefile(llm)


def test_what_is_there_stays(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "b"
    import_pair(pair, out, parity=False, vision_types=["fp32"])
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        import_pair(pair, out, parity=False, vision_types=["fp32"])
    with pytest.raises(CheckpointError):
        import_pair([pair[0], _cut(pair[1], tmp_path)], out, parity=False, vision_types=["fp32"], overwrite=True)

    def interrupt(step: str, _share: float) -> None:
        if step == "hashes":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_pair(pair, out, parity=False, vision_types=["fp32"], overwrite=True, progress=interrupt)
    assert (out / "manifest.json").read_bytes() == before
    assert not list(tmp_path.glob(".b.*"))
    import_pair(pair, out, parity=False, vision_types=["fp32"], overwrite=True)


def _cut(path: Path, folder: Path) -> Path:
    cut = folder / "cut.gguf"
    cut.write_bytes(path.read_bytes()[:-1000])
    return cut


def test_a_full_disk_is_found_before_anything_starts(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(BundleError, match="no room for the bundle"):
        import_pair(pair, tmp_path / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vision", "int4"], "unknown vision precision 'int4'"),
        (["--template", "chatml"], "unknown prompt template 'chatml'"),
        (["--reading", "mine"], "unknown reading 'mine'"),
        (["--name", "a/b"], "is not a bundle name"),
    ],
)
def test_a_wrong_option_is_one_line(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["import", *map(str, pair), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_model_with_too_few_positions_is_refused(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "N_CTX", 64)
    with pytest.raises(CheckpointError, match="was trained with 64 positions"):
        import_pair(
            [tiny.write_gguf(tmp_path / "llm.gguf"), pair[1]], tmp_path / "b", parity=False, vision_types=["fp32"]
        )


def test_the_name_is_the_language_model_s(tmp_path: Path) -> None:
    eye = tmp_path / "mmproj-model-f16.gguf"
    for file, name in {
        "llava-v1.5-7b-Q4_K_M.gguf": "llava-v1.5-7b",
        "llava-v1.5-7b.f16.gguf": "llava-v1.5-7b",
        "my model (2).gguf": "my-model-2",
        "ggml-model-q4_k.gguf": tmp_path.name,
    }.items():
        assert name_of([eye, tmp_path / file]) == name


@pytest.mark.parametrize("blob", [f"sha256-{'ab' * 32}", f"sha256:{'0' * 64}", "cd" * 32, "\u6a21\u578b.gguf"])
def test_a_blob_without_a_name_gets_one_that_can_be_typed(pair: tuple[Path, Path], tmp_path: Path, blob: str) -> None:
    llm, eye = tmp_path / blob, tmp_path / ("ef" * 32)
    shutil.copy(pair[0], llm)
    shutil.copy(pair[1], eye)
    assert name_of([eye, llm]) == name_of([llm, eye]) == "tiny"  # general.name
    llm.write_bytes(b"no GGUF")
    assert name_of([llm, eye]) == "bundle"


def test_pytorch_is_not_loaded(pair: tuple[Path, Path], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'optimum', 'sentencepiece', 'safetensors'): sys.modules[name] = None\n"
        "from aesedge.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "sys.exit(status)\n"
    )
    command = [sys.executable, "-c", code, "import", *map(str, pair), "--out", str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert open_bundle(tmp_path / "b").name == "b"


@pytest.mark.parametrize("package", ["gguf", "onnx"])
def test_a_missing_package_names_the_extra(pair: tuple[Path, Path], package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from aesedge.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "import", *map(str, pair)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'aesedge[convert]'" in done.stderr


@pytest.mark.export
def test_it_answers_as_the_same_model_exported_from_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra [export]")
    import tiny_llava
    from aesedge_export import export_checkpoint
    from aesedge_export.checkpoint.checkpoint import open_checkpoint
    from aesedge_export.vision.vision_graph import ProjectedTower

    folder = tiny_llava.write_hf(tmp_path / "hf")
    export_checkpoint(folder, tmp_path / "exported", gguf_types=["F16"], parity=False)
    checkpoint = open_checkpoint(folder)
    state_of = ProjectedTower(checkpoint).state_dict()
    tensors = {}
    for name, tensor in state_of.items():
        if "position_ids" not in name:
            canonical = name.replace("projector.", "multi_modal_projector.")
            tensors[canonical if "projector" in name else f"vision_tower.{name}"] = tensor.numpy()
    eye = tiny.write_mmproj(tmp_path / "mmproj.gguf", tensors)
    import_pair(
        [tmp_path / "exported" / "llm-f16.gguf", eye],
        tmp_path / "imported",
        vision_types=["fp32"],
        photos=SAMPLE_PHOTOS[:1],
    )
    photo = tmp_path / "photo.png"
    drawn_photo(1, (200, 130)).save(photo)
    answers, rows = [], []
    for name in ("exported", "imported"):
        with opened(tmp_path / name, vision="fp32") as model:
            looked = model.look(photo)
            answers.append((looked.score().score, looked.ask("How is the light?").text))
            pixels = preprocess(read_image(photo), model.manifest.image)
        with VisionTower(tmp_path / name / "vision-fp32.onnx", device="cpu", n_threads=1) as tower:
            rows.append(tower.encode(pixels))
    # The checkpoint is in half precision, so F16 loses nothing. Measured: 1e-6; 0.0013 points, by llama.cpp's rounding.
    assert np.abs(rows[0] - rows[1]).max() <= 1e-5 * np.abs(rows[0]).max()
    assert abs(answers[0][0] - answers[1][0]) <= 0.01
    assert answers[0][1] == answers[1][1]
