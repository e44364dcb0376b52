"""Memory: the estimate against the peak of a process that does it, what fits and what is said where it does not."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from conftest import drawn_photo
from llama_quantize import Job, quantize_with_llama

from aesedge.bundle.bundle import Bundle, open_bundle
from aesedge.bundle.gguf_tensors import read_weights
from aesedge.bundle.manifest import ImageTokens
from aesedge.cache.embeddings import RAM_BYTES
from aesedge.cli import main
from aesedge.config.memory import MemoryEstimate, check_fit, estimate, fit, parse_memory
from aesedge.config.memory.dry_run import DryRun
from aesedge.config.options import Options
from aesedge.config.plan import Plan
from aesedge.config.planning import make_plan
from aesedge.engine import loading as engine
from aesedge.engine.model import load_model
from aesedge.errors import MemoryFitError, ModelLoadError, UsageError
from aesedge.image.image_spec import ImageSpec
from aesedge.llm import Context, LanguageModel, binding
from aesedge.system import machine

MEASURE = Path(__file__).parents[1] / "measure" / "measure_memory.py"
TOLERANCE = 0.10
GB, MIB = 10**9, 1 << 20
Q4_K_M = 15  # llama_ftype
N_EMBD, IMAGE_SIZE, PATCH_SIZE = 1024, 224, 14
N_IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2


@pytest.fixture(scope="session")
def sizeable(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose parts stand out against the interpreter: 100 M parameters of language, 14 M of vision."""
    precision = pytest.importorskip("aesedge_export.vision.vision_precision")
    builder = pytest.importorskip("aesedge_export.vision.vision_builder")
    folder = tmp_path_factory.mktemp("sizeable")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"N_FF": 2816, "N_LAYER": 8, "N_HEAD": 8, "N_CTX": 8192}.items():
            patch.setattr(tiny, name, value)
        patch.setattr(tiny, "TOWER", {"hidden": 512, "n_heads": 8, "n_layers": 4, "intermediate": 2048})
        patch.setattr(tiny, "PATCH_SIZE", PATCH_SIZE)
        patch.setattr(tiny, "N_IMAGE_TOKENS", N_IMAGE_TOKENS)
        tiny.write_gguf(folder / "llm-f16.gguf", n_embd=N_EMBD, half=True)
        tensors = tiny.tower_tensors(n_embd=N_EMBD, n_layers=4)
    quantize_with_llama([Job(folder / "llm-f16.gguf", folder / "llm-q4_k_m.gguf", Q4_K_M)])
    shape = builder.VisionShape(
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden=512,
        n_heads=8,
        n_layers=4,
        intermediate=2048,
        n_embd=N_EMBD,
    )
    builder.write_from_tensors(shape, tensors.__getitem__, folder / "raw.onnx", facts={})
    precision.optimize(folder / "raw.onnx", folder / "vision-fp32.onnx")
    pixels = [np.random.default_rng(0).standard_normal((1, 3, IMAGE_SIZE, IMAGE_SIZE), np.float32)]
    precision.write_fp16(folder / "vision-fp32.onnx", folder / "vision-fp16.onnx", pixels)
    precision.write_int8(folder / "vision-fp32.onnx", folder / "vision-int8.onnx", pixels)
    files = [tiny.described(folder / f"vision-{t}.onnx", "vision", t) for t in ("fp32", "fp16", "int8")]
    files += [tiny.described(folder / f"llm-{t.lower()}.gguf", "llm", t) for t in ("F16", "Q4_K_M")]
    tiny.write_manifest(
        folder,
        files,
        name="sizeable",
        n_embd=N_EMBD,
        image=ImageSpec(size=IMAGE_SIZE, mean=tiny.MEAN, std=tiny.STD, pad_color=(122, 116, 104)),
        image_tokens=ImageTokens(min=N_IMAGE_TOKENS, max=N_IMAGE_TOKENS),
    )
    return open_bundle(folder)


def plan(**changes: object) -> Plan:
    fields = {"gguf": "F16", "vision": "fp32", "n_image_tokens": N_IMAGE_TOKENS, "device": "cpu", "ctx": 2048}
    return Plan(**{**fields, **changes})


@pytest.fixture
def small(bundle_folder: Path) -> Bundle:
    return open_bundle(bundle_folder)


SMALL = Plan(gguf="F32", vision="fp32", n_image_tokens=tiny.N_IMAGE_TOKENS, device="cpu")


@pytest.mark.export
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("gguf", "vision", "ctx", "kv_type"),
    [
        ("f16", "fp32", 2048, "f16"),
        ("f16", "fp32", 4096, "f16"),
        ("f16", "int8", 4096, "q8_0"),
        ("f16", "fp16", 2048, "f16"),
        ("q4_k_m", "int8", 2048, "f16"),
        ("q4_k_m", "fp32", 4096, "q8_0"),
    ],
)
def test_measured_peak_is_within_a_tenth_of_the_estimate(
    sizeable: Bundle, gguf: str, vision: str, ctx: int, kv_type: str
) -> None:
    options = {"--gguf": gguf, "--vision": vision, "--ctx": str(ctx), "--kv-type": kv_type, "--threads": "1"}
    command = [sys.executable, str(MEASURE), str(sizeable.folder), *(word for pair in options.items() for word in pair)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["estimate"] == pytest.approx(found["peak"], rel=TOLERANCE), done.stdout


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("n_ctx", [256, 1024, 2048])
def test_llama_cpp_plans_what_it_allocates(gguf_path: Path, llm: LanguageModel, kv_type: str, n_ctx: int) -> None:
    with DryRun(gguf_path) as model:
        planned = model.buffers(n_ctx=n_ctx, n_batch=min(n_ctx, 1024), n_seq_max=8, kv_type=kv_type)
    lib, log = binding.load(), []
    before, data = lib.llama_log_callback(), ctypes.c_void_p()
    lib.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    keep = lib.llama_log_callback(lambda _level, text, _data: log.append(text.decode()))
    lib.llama_log_set(keep, None)
    try:
        Context(llm, n_ctx=n_ctx, n_seq_max=8, n_threads=1, kv_type=kv_type).close()
    finally:
        lib.llama_log_set(before, data)
    found = {what: float(n) for what, n in re.findall(r"(KV|compute|output) buffer size =\s*([\d.]+)", "".join(log))}
    rounding = 0.011 * MIB
    assert planned.kv == pytest.approx(found["KV"] * MIB, abs=rounding)
    assert sum(planned.compute.values()) == pytest.approx(found["compute"] * MIB, abs=rounding)
    assert planned.output == pytest.approx(found["output"] * MIB, abs=rounding)
    per_cell = {"f16": 2.0, "q8_0": 34 / 32}[kv_type] * tiny.N_EMBD * 2 * tiny.N_LAYER
    assert planned.kv == pytest.approx(n_ctx * per_cell, abs=rounding)


def test_weights_are_those_of_the_file(gguf_path: Path) -> None:
    weights = read_weights(gguf_path)
    assert {w.layer for w in weights} == {None, *range(tiny.N_LAYER)}
    assert [w.name for w in weights if w.is_input] == ["token_embd.weight"]
    assert not any(w.repacks for w in weights)  # nobody repacks float32
    last = max(weights, key=lambda w: w.offset)
    assert 0 <= gguf_path.stat().st_size - (last.offset + last.n_bytes) < 64


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"no model" * 100)
    with pytest.raises(ModelLoadError, match=r"a\.gguf"):
        read_weights(tmp_path / "a.gguf")
    with pytest.raises(ModelLoadError, match=r"a\.gguf"):
        DryRun(tmp_path / "a.gguf")


def test_more_positions_take_more_and_q8_0_takes_half(small: Bundle) -> None:
    base, longer = estimate(small, replace(SMALL, ctx=1000)), estimate(small, replace(SMALL, ctx=2048))
    assert (base.n_ctx, longer.n_ctx) == (1024, 2048)
    assert longer.parts["KV cache"] == 2 * base.parts["KV cache"]
    half = estimate(small, replace(SMALL, ctx=2048, kv_type="q8_0"))
    assert half.parts["KV cache"] == pytest.approx(longer.parts["KV cache"] * 34 / 64, abs=0.01 * MIB)


@pytest.mark.export
def test_repacked_weights_leave_pages_that_nobody_needs(sizeable: Bundle) -> None:
    repacked, plain = (estimate(sizeable, plan(gguf="Q4_K_M", repack=r)) for r in (True, False))
    n_file = (sizeable.folder / "llm-q4_k_m.gguf").stat().st_size
    assert "weights, repacked" not in plain.parts
    assert plain.reclaimable_bytes == 0
    assert plain.parts["weights"] == pytest.approx(n_file, rel=0.01)
    if "weights, repacked" in repacked.parts:  # which depends on the CPU
        assert repacked.parts["weights"] + repacked.parts["weights, repacked"] == plain.parts["weights"]
        assert 0 < repacked.reclaimable_bytes <= repacked.parts["weights, repacked"]


def test_percent_is_of_all_ram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "total_bytes", lambda: 16 * GB)
    assert parse_memory("50%") == parse_memory("50 %") == 8 * GB


@pytest.mark.parametrize(
    ("text", "why"), [("much", "no size"), ("0", "less than 1 MB"), ("101%", "more than there is")]
)
def test_what_is_no_budget_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"--memory '{text}' is {why}"):
        parse_memory(text)


def limit_ram(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    """Let this process seem fresh, on a machine with so much left for it in all."""
    monkeypatch.setattr(machine, "process_bytes", lambda: 0)
    monkeypatch.setattr(machine, "available_bytes", lambda: n_bytes)


def test_what_fits_is_returned_with_its_plan(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = estimate(small, SMALL).needed_bytes
    limit_ram(monkeypatch, needed)
    assert check_fit(small, SMALL) == (estimate(small, SMALL), 0)
    limit_ram(monkeypatch, needed - 1)
    with pytest.raises(MemoryFitError, match="are free"):
        check_fit(small, SMALL)


def test_room_for_several_photos_is_made_where_memory_allows(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [tiny.N_IMAGE_TOKENS + 5 + 1024 + further * (tiny.N_IMAGE_TOKENS + 256) for further in range(4)]
    assert [replace(SMALL, n_photos=n).n_ctx(5) for n in (1, 2, 3, 4)] == wanted
    limit_ram(monkeypatch, estimate(small, replace(SMALL, n_photos=3)).needed_bytes)
    assert check_fit(small, replace(SMALL, n_photos=4)).estimate.plan.n_photos == 3
    limit_ram(monkeypatch, 1000)
    with pytest.raises(MemoryFitError, match="--ctx 1280,"):
        check_fit(small, replace(SMALL, n_photos=4))


def advised(
    bundle: Bundle, asked: Plan, monkeypatch: pytest.MonkeyPatch, n_bytes: int, memory: str | None = None
) -> str:
    limit_ram(monkeypatch, n_bytes)
    with pytest.raises(MemoryFitError) as caught:
        check_fit(bundle, asked, memory)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in ("KV cache", "vision tower", "process"))
    return message


def test_each_suggestion_fits_and_none_that_fits_less_is_made(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(SMALL, ctx=65536)
    room = max(estimate(small, p).needed_bytes for p in (replace(asked, ctx=40000), replace(asked, kv_type="q8_0")))
    message = advised(small, asked, monkeypatch, room)
    longest = int(message.split("--ctx ")[2].split()[0])
    assert longest >= 40192  # 40,000 rounded up to cells
    assert check_fit(small, replace(asked, ctx=longest)).estimate.n_ctx == longest
    assert estimate(small, replace(asked, ctx=longest + 256)).needed_bytes > room
    assert "--kv-type q8_0 (" in message
    assert check_fit(small, replace(asked, kv_type="q8_0")).estimate.needed_bytes <= room
    assert "--gguf" not in message  # the other type is as large
    assert "--vision" not in message
    room = estimate(small, replace(asked, kv_type="q8_0")).needed_bytes - 1
    assert "--kv-type q8_0 (" not in advised(small, asked, monkeypatch, room)


def test_other_types_and_image_tokens_are_suggested_where_they_fit(
    small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {("llm", "F32"): 3 * GB, ("llm", "Q4_K_M"): GB, ("vision", "fp32"): GB, ("vision", "int8"): GB // 4}
    files = [
        SimpleNamespace(role=role, type=type_, n_bytes=n, path=f"{role}-{type_}") for (role, type_), n in sizes.items()
    ]
    bundle = SimpleNamespace(
        name="b", manifest=SimpleNamespace(files=files, image_tokens=SimpleNamespace(min=100, max=576))
    )

    def made_up(_bundle: object, asked: Plan, *, process_bytes: int = 0) -> MemoryEstimate:
        parts = {
            "process": process_bytes,
            "weights": sizes["llm", asked.gguf],
            "vision tower": sizes["vision", asked.vision],
            "KV cache": (asked.ctx or asked.n_image_tokens + 1024) * 10**6 // (2 if asked.kv_type == "q8_0" else 1),
        }
        n_ctx = asked.ctx or asked.n_image_tokens + 1024
        return MemoryEstimate(asked, n_ctx, 0, parts, {}, 0, 512)

    monkeypatch.setattr(fit, "estimate", made_up)
    asked = Plan(gguf="F32", vision="fp32", n_image_tokens=576)  # 5.6 GB and the process's 84 MB
    message = advised(bundle, asked, monkeypatch, int(5.4 * GB) + 84 * 10**6)
    for option in ("--kv-type q8_0", "--gguf q4_k_m", "--vision int8", "--image-tokens 376 ", "--ctx 1344 "):
        assert option in message
    message = advised(bundle, asked, monkeypatch, int(3.7 * GB))
    assert "--gguf q4_k_m" in message
    assert not any(option in message for option in ("--vision", "--image-tokens", "q8_0 ("))
    together = advised(bundle, asked, monkeypatch, int(1.7 * GB))
    assert "--ctx 576 --kv-type q8_0 --gguf q4_k_m --vision int8 --image-tokens 100 (" in together
    assert "nothing in this bundle fits" in advised(bundle, asked, monkeypatch, GB)


def test_budget_counts_where_it_is_less_than_what_is_free(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(SMALL, ctx=65536)
    needed = estimate(small, asked).needed_bytes
    assert check_fit_with(small, asked, monkeypatch, 8 * GB, "4GB").needed_bytes == needed
    message = advised(small, asked, monkeypatch, 8 * GB, "120MB")
    assert "--memory allows 120 MB" in message
    raised = message.rsplit("--memory ", 1)[1]
    assert check_fit_with(small, asked, monkeypatch, 8 * GB, raised).needed_bytes == needed
    assert "--memory" not in advised(small, asked, monkeypatch, 110 * 10**6, "4GB")


def check_fit_with(
    bundle: Bundle, asked: Plan, monkeypatch: pytest.MonkeyPatch, n_bytes: int, memory: str
) -> MemoryEstimate:
    limit_ram(monkeypatch, n_bytes)
    return check_fit(bundle, asked, memory).estimate


def test_model_that_does_not_fit_is_not_loaded(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LanguageModel", None)
    monkeypatch.setattr(engine, "VisionTower", None)
    with pytest.raises(MemoryFitError, match="--memory allows 2 MB"):
        load_model(bundle_folder, memory="2MB", device="cpu")


def test_what_a_budget_leaves_is_for_embeddings_of_photos_that_were_seen(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(bundle_folder)
    needed = estimate(bundle, make_plan(Options(device="cpu"), bundle)).needed_bytes
    limit_ram(monkeypatch, 8 * GB)
    for spare, kept in ((0, 0), (3 * 10**6, 3 * 10**6), (GB, RAM_BYTES)):
        with load_model(bundle_folder, memory=f"{needed + spare}B", device="cpu") as model:
            assert model.internals.encoder.cache.ram_bytes == kept
            with model.look(drawn_photo()) as photo:
                assert photo.score() == photo.score()


def test_memory_on_the_command_line(bundle_folder: Path, photo_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(photo_path), "--bundle", str(bundle_folder), "--memory", "2MB"]) == 2
    assert "B of RAM, --memory allows 2 MB" in capsys.readouterr().err
    assert main(["score", str(photo_path), "--bundle", str(bundle_folder), "--memory", "lots"]) == 2
    assert "write a number with its unit (6GB, 512MB), or 50%" in capsys.readouterr().err
    assert main(["info", str(bundle_folder)]) == 0
    shown = capsys.readouterr().out
    assert "with f32, vision fp32, --ctx 1280, --kv-type f16" in shown
    assert "KV cache" in shown
