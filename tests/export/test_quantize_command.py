"""``aesedge quantize`` adds types to a bundle, which is whole at every moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import llama_quantize
import numpy as np
import pytest
import tiny
from aesedge_export.language import requantize
from aesedge_export.language.requantize import add_types
from aesedge_export.language.tensor_types import ASKED_TYPES
from tiny import plain

import aesedge
from aesedge.bundle.bundle import open_bundle
from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.cli import main
from aesedge.engine.model import load_model
from aesedge.errors import AesedgeError, BundleError, BundleIntegrityError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

POCKET = Path(aesedge.__file__).parent / "pocket"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with F32 and what says it is Q4_K_M."""
    return tiny.write_bundle(tmp_path / "bundle")


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def types(folder: Path) -> list[str]:
    return open_bundle(folder).manifest.types("llm")


def test_types_are_added_and_answer(bundle: Path, photo_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(bundle)
    assert main(["quantize", str(bundle), "--gguf", "q5_0, Q8_0"]) == 0
    shown = capsys.readouterr()
    assert "llm-q5_0.gguf" in shown.out
    assert "llm-q8_0.gguf" in shown.out
    assert shown.err.splitlines() == ["language model: done", "parity: Q5_0: done", "parity: Q8_0: done"]
    assert types(bundle) == ["F32", "Q4_K_M", "Q5_0", "Q8_0"]
    assert [problem for _, problem in open_bundle(bundle).verify()] == [""] * 5
    after = state(bundle)
    assert set(after) - set(before) == {"llm-q5_0.gguf", "llm-q8_0.gguf"}
    assert all(after[name] == before[name] for name in before if name != "manifest.json")
    for gguf_type in ("q5_0", "q8_0"):
        with load_model(bundle, gguf=gguf_type, threads=1, device="cpu") as model:
            assert 0 <= model.look(photo_path).score().score <= 10


@pytest.mark.parametrize("weighted", [False, True])
def test_the_new_file_is_what_llama_cpp_makes_of_the_source(bundle: Path, tmp_path: Path, weighted: bool) -> None:
    importance = {"blk.0.ffn_up.weight": np.linspace(0.1, 9, tiny.N_EMBD, dtype=np.float32)} if weighted else None
    add_types(bundle, ["IQ4_NL"], importance=importance)
    job = llama_quantize.Job(bundle / "llm-f32.gguf", tmp_path / "reference", GGUF_TYPES["IQ4_NL"].ftype, importance)
    llama_quantize.quantize_with_llama([job])
    assert llama_quantize.tensors(bundle / "llm-iq4_nl.gguf") == llama_quantize.tensors(job.target)


def test_the_manifest_says_what_a_type_is_made_of_and_that_it_was_not_compared(bundle: Path) -> None:
    figures = plain(add_types(bundle, ["Q4_K_S"]).manifest.fidelity)["types"]["Q4_K_S"]
    assert figures["made_of"] == "F32"
    assert figures["checked"] is False
    # Rows of 64 and 128 do not fit a type of blocks of 256.
    assert figures["stored_otherwise"]["blk.1.ffn_up.weight"] == "Q5_0"


def test_measured_figures_are_noted(bundle: Path) -> None:
    asked = []

    def measure(source: tuple[str, Path], files: Any) -> dict[str, dict[str, Any]]:
        asked.append((source[0], source[1].name, {t: path.is_file() for t, path in files.items()}))
        return {t: {"mean_kl": 0.5} for t in files}

    made = add_types(bundle, ["Q5_0", "Q8_0"], measure=measure)
    assert asked == [("F32", "llm-f32.gguf", {"Q5_0": True, "Q8_0": True})]
    assert plain(made.manifest.fidelity)["types"]["Q8_0"] == {"made_of": "F32", "mean_kl": 0.5}


def test_json_is_one_object(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(bundle), "--gguf", "q8_0", "--json"]) == 0
    n_bytes = (bundle / "llm-q8_0.gguf").stat().st_size
    printed = json.loads(capsys.readouterr().out)
    assert (printed["bundle"], printed["folder"]) == ("tiny", str(bundle))
    assert printed["added"] == [{"gguf": "q8_0", "file": "llm-q8_0.gguf", "bytes": n_bytes}]
    assert [f["file"] for f in printed["files"]] == [f.path for f in open_bundle(bundle).manifest.files]
    assert list(printed["fidelity"]["types"]) == ["Q8_0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gguf", "q4_k_m"], "has q4_k_m already; it has: f32, q4_k_m"),
        (["--gguf", "q9_z"], "unknown quantization type 'q9_z'; there are F16, "),
        (["--gguf", ","], "no quantization type is asked for"),
        (["--gguf", "q8_0", "--from", "q4_k_m"], "q4_k_m is too coarse to begin from"),
        (["--gguf", "q8_0", "--from", "f16"], "has no type 'f16' to begin from; it has: f32, q4_k_m"),
        (["--gguf", "q8_0", "--name", "a b"], "'a b' is not a bundle name"),
    ],
)
def test_a_wrong_call_says_why_and_changes_nothing(
    bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    before = state(bundle)
    assert main(["quantize", str(bundle), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert state(bundle) == before


def test_a_bundle_of_coarse_types_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_bundle(tmp_path / "coarse")
    tower, _, other = open_bundle(folder).manifest.files
    tiny.write_manifest(folder, [tower, other])
    with pytest.raises(BundleError, match=r"has only q4_k_m, too coarse.*export or import it again"):
        add_types(folder, ["Q5_K_M"])


def test_the_most_precise_type_is_the_source(bundle: Path) -> None:
    add_types(bundle, ["Q8_0", "F16"])
    tower, f32, _, *added = open_bundle(bundle).manifest.files
    (bundle / f32.path).unlink()
    tiny.write_manifest(bundle, [tower, *added])
    assert plain(add_types(bundle, ["Q5_0"]).manifest.fidelity)["types"]["Q5_0"]["made_of"] == "F16"
    made = add_types(bundle, ["Q4_0"], source_type="q8_0")
    assert plain(made.manifest.fidelity)["types"]["Q4_0"]["made_of"] == "Q8_0"


def test_an_altered_source_is_refused(bundle: Path) -> None:
    path = bundle / "llm-f32.gguf"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleIntegrityError, match=r"llm-f32\.gguf: altered"):
        add_types(bundle, ["Q8_0"])


def test_the_package_is_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    before = state(POCKET)
    assert main(["quantize", "pocket", "--gguf", "q5_k_m"]) == 2
    assert "part of the installed package" in capsys.readouterr().err
    assert main(["quantize", "pocket", "--gguf", "q5_k_m,q3_k_m", "--name", "pocket-more", "--quiet"]) == 0
    assert state(POCKET) == before
    assert open_bundle("pocket-more").manifest.types("llm") == ["Q8_0", "Q4_K_M", "Q5_K_M", "Q3_K_M"]
    assert [problem for _, problem in open_bundle("pocket-more").verify() if problem] == []


def test_a_copy_in_a_folder_leaves_the_bundle_as_it_is(bundle: Path, tmp_path: Path) -> None:
    before = state(bundle)
    made = add_types(bundle, ["Q8_0"], out=tmp_path / "copy")
    assert (made.name, made.folder) == ("copy", tmp_path / "copy")
    assert state(bundle) == before
    assert types(made.folder) == ["F32", "Q4_K_M", "Q8_0"]
    with pytest.raises(UsageError, match="there is a bundle already"):
        add_types(bundle, ["Q5_0"], out=tmp_path / "copy")


@pytest.mark.parametrize("copy", [False, True])
def test_room_is_asked_for_before_anything_is_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    before = state(bundle)
    with pytest.raises(BundleError, match="no room for"):
        add_types(bundle, ["Q8_0"], out=tmp_path / "copy" if copy else None)
    assert state(bundle) == before
    assert not (tmp_path / "copy").exists()


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def fail(*_: object, **__: object) -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("step", ["write_language", "sha256", "_replace_manifest"])
@pytest.mark.parametrize(("happens", "error"), [(interrupt, KeyboardInterrupt), (fail, BundleError)])
def test_whatever_fails_leaves_the_bundle_as_it_was(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, step: str, happens: Callable[..., None], error: type[Exception]
) -> None:
    before = state(bundle)
    monkeypatch.setattr(requantize, step, happens)
    with pytest.raises(error):
        add_types(bundle, ["Q8_0", "Q5_0"])
    assert state(bundle) == before


def test_types_that_another_run_added_meanwhile_are_kept(bundle: Path) -> None:
    def meanwhile(*_: object) -> dict[str, Any]:
        command = [sys.executable, "-m", "aesedge", "quantize", str(bundle), "--gguf", "q8_0"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {}

    add_types(bundle, ["Q5_0"], measure=meanwhile)
    assert types(bundle) == ["F32", "Q4_K_M", "Q8_0", "Q5_0"]


KILLED = """
import os, signal, sys
from aesedge_export.language.requantize import add_types
add_types(sys.argv[1], ["Q8_0"], progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_run_leaves_a_valid_bundle_and_the_next_one_tidies_up(bundle: Path) -> None:
    before = state(bundle)
    done = subprocess.run([sys.executable, "-c", KILLED, str(bundle)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = set(state(bundle)) - set(before)
    assert left.endswith(".partial")
    assert open_bundle(bundle).manifest.types("llm") == ["F32", "Q4_K_M"]
    (bundle / ".note.1.partial").write_text("of a run that lives: process 1")
    add_types(bundle, ["Q5_0"])
    assert set(state(bundle)) - set(before) == {"llm-q5_0.gguf", ".note.1.partial"}


START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from aesedge.cli import main
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_ends_the_command_within_a_second(tmp_path: Path) -> None:
    folder = shutil.copytree(POCKET, tmp_path / "bundle")
    before = state(folder)
    asked = ",".join(t for t in ASKED_TYPES if t not in {"Q8_0", "Q4_K_M"})
    process = subprocess.Popen(
        [sys.executable, "-c", START, "quantize", str(folder), "--gguf", asked], stderr=subprocess.PIPE, text=True
    )
    while not any(path.stat().st_size > 2_000_000 for path in folder.glob(".*.partial")):
        assert process.poll() is None
        time.sleep(0.01)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - sent < 1
    assert process.returncode == 130
    assert err == ""
    assert state(folder) == before


def test_a_missing_package_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['gguf'] = None\nfrom aesedge.cli import main\nmain(['quantize', 'x', '--gguf', 'f16'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'aesedge[convert]'" in done.stderr


def test_it_needs_no_torch(bundle: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'optimum', 'sentencepiece']))\n"
        "from aesedge.cli import main; sys.exit(main(['quantize', sys.argv[1], '--gguf', 'q8_0']))"
    )
    subprocess.run([sys.executable, "-c", code, str(bundle)], check=True, env=os.environ, stdout=subprocess.DEVNULL)
    assert types(bundle) == ["F32", "Q4_K_M", "Q8_0"]


def test_an_unknown_bundle_is_named() -> None:
    with pytest.raises(AesedgeError, match="no bundle 'nowhere'"):
        add_types("nowhere", ["Q8_0"])
