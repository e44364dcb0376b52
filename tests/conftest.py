"""Fixtures: tiny bundles and models made in code, photos drawn in code, a home and a cache of their own."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny
from laid_out import command
from PIL import Image

from aesedge.bundle import first_load
from aesedge.engine.model import Model, load_model
from aesedge.llm import Context, LanguageModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving import Running

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def proven_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was loaded in a process of its own by a test before: the same tiny model is not tried by each of them."""
    return tmp_path_factory.mktemp("proven")


@pytest.fixture(scope="session", autouse=True)
def built_kernels() -> Path:
    """Compile the matrix kernels once for all tests, where `make` puts them: each test has a cache of its own."""
    from aesedge.kernels import find_library
    from aesedge.kernels.library import CLONE_FOLDER

    find_library(None, folder=CLONE_FOLDER)
    return CLONE_FOLDER


@pytest.fixture(autouse=True)
def own_folders(
    tmp_path_factory: pytest.TempPathFactory, proven_files: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Keep tests out of the user's bundles and caches, and the user's out of tests."""
    cache = tmp_path_factory.mktemp("cache")
    shutil.copytree(proven_files, cache / first_load.FOLDER)
    monkeypatch.setenv("AESEDGE_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("AESEDGE_CACHE", str(cache))
    yield
    for path in (cache / first_load.FOLDER).glob("?" * 64):
        if path.is_file():
            shutil.copy(path, proven_files)


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files do not change between two looks, so there is nothing to wait for; and no GPU of the machine that tests."""
    monkeypatch.setattr("aesedge.system.measurement_noise._LOOK_S", 0.0)
    command(tmp_path / "commands", "nvidia-smi", "exit 9", monkeypatch)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own way with Ctrl-C: the background of a shell, where tests may run, has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def gguf_path(bundle_folder: Path) -> Path:
    return bundle_folder / "llm-f32.gguf"


@pytest.fixture(scope="session")
def llm(gguf_path: Path) -> Iterator[LanguageModel]:
    with LanguageModel(gguf_path) as model:
        yield model


@pytest.fixture
def context(llm: LanguageModel) -> Iterator[Context]:
    with Context(llm, n_ctx=512, n_seq_max=8, n_threads=1) as cache:
        yield cache


@pytest.fixture
def model(bundle_folder: Path) -> Iterator[Model]:
    with open_tiny(bundle_folder) as opened:
        yield opened


def open_tiny(folder: Path, **options: Any) -> Model:
    """Open a tiny bundle with one thread: on models this small more threads only wait for each other."""
    return load_model(folder, **{"threads": 1, "device": "cpu", **options})


def drawn_photo(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return a picture with structure at several scales."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.normal(0, 8, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def photo_path(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    drawn_photo().save(path)
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with pocket that asks for no key."""
    from serving import serving

    with serving(options={"cache_folder": tmp_path_factory.mktemp("cache")}) as running:
        yield running
