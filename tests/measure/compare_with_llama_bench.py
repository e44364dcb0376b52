"""Compare the rows ``pp`` and ``tg`` of ``aesedge bench`` with llama-bench, built from the same llama.cpp.

    python tests/measure/compare_with_llama_bench.py BUNDLE --source LLAMA_CPP [--gguf TYPE] [--runs N]
    python tests/measure/compare_with_llama_bench.py BUNDLE --program LLAMA_BENCH ...

LLAMA_CPP is the folder ``vendor/llama.cpp`` of llama-cpp-python's source package in the installed version; llama-bench
is compiled from it (half a minute) and linked with the libraries of the installed wheel, so both sides run the same
kernels. Both have the same file, threads, batch sizes, repacking and attention, and take turns; the program is started
anew for each turn, and warms up itself, as we do. Medians; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.bench.fixture import Fixture, NewPhotos
from aesedge.bench.timing import N_GEN, open_raw_timer
from aesedge.engine.model import load_model
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.tuning.paired_runs import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from aesedge.engine.model import Model


def build(source: Path, folder: Path) -> Path:
    """Compile llama-bench and link it with the installed libraries."""
    libraries = Path(sysconfig.get_paths()["platlib"]) / "lib"
    program = folder / "llama-bench"
    includes = [f"-I{source / part}" for part in ("common", "include", "ggml/include", "vendor")]
    files = [str(source / "tools/llama-bench" / name) for name in ("llama-bench.cpp", "main.cpp")]
    linked = [f"-l{name}" for name in ("llama-common", "llama", "ggml", "ggml-base", "ggml-cpu")]
    where = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-pthread"]
    compiler = shutil.which("c++")
    if compiler is None:
        raise SystemExit("there is no C++ compiler (c++); install one, or give --program")
    subprocess.run(
        [compiler, "-O2", "-std=c++17", "-DNDEBUG", *includes, *files, "-o", str(program), *where, *linked], check=True
    )
    return program


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--program", type=Path)
    parser.add_argument("--gguf")
    parser.add_argument("--purpose", default="critique")
    parser.add_argument("--tests", help="such as pp576,tg128; many short turns tell more than few long ones")
    parser.add_argument("--runs", type=int, default=9, help="turns of each side")
    parser.add_argument("--repetitions", type=int, default=1, help="of a test in each turn; their mean counts")
    given = parser.parse_args()
    if (given.source is None) == (given.program is None):
        parser.error("give either --source or --program")
    with tempfile.TemporaryDirectory() as folder:
        program = given.program or build(given.source, Path(folder))
        with load_model(given.bundle, gguf=given.gguf, cache="0", photos=2, purpose=given.purpose) as model:
            tests = (given.tests or f"pp{model.n_image_tokens},tg{N_GEN}").split(",")
            compare(model, program, Path(folder), tests, given.runs, given.repetitions)


def compare(model: Model, program: Path, folder: Path, tests: list[str], runs: int, repetitions: int) -> None:
    """Let both sides take turns."""
    plan = model.internals.plan
    command = [str(program), "-m", str(model.bundle.path("llm", model.gguf)), "-o", "json", "-r", str(repetitions)]
    command += [
        "-t",
        str(plan.threads),
        "-b",
        str(plan.n_ubatch),
        "-ub",
        str(plan.n_ubatch),
        "-ngl",
        str(model.internals.n_gpu_layers),
    ]
    command += ["-fa", str(int(plan.flash_attention)), "--repack", str(int(plan.repack))]
    print(f"{model.bundle.name}: {' '.join(command[3:])}")
    found: dict[str, list[tuple[float, float]]] = {}
    with Fixture(model, SAMPLE_PHOTOS, NewPhotos(SAMPLE_PHOTOS, folder)) as fixture, open_raw_timer(fixture) as timer:
        for name in tests:
            n = int(name[2:])
            is_prompt = name.startswith("pp")
            asked = ["-p", str(n), "-n", "0"] if is_prompt else ["-p", "0", "-n", str(n)]

            def ours(
                _name: str,
                n: int = n,
                run: Callable[[int], int] = timer.prefill if is_prompt else timer.decode,
                is_prompt: bool = is_prompt,
            ) -> float:
                run(n if is_prompt else 1)  # the same warm-up as llama-bench's: the other side had the caches
                return statistics.fmean(n * 1e9 / run(n) for _ in range(repetitions))

            def theirs(_name: str, asked: list[str] = asked) -> float:
                return rate(command + asked)

            pairs = [(our, their) for _, our, their in in_turns([[name]] * runs, ours, theirs)]
            ratio = statistics.median(a / b for a, b in pairs)
            medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
            print(
                f"{name}: aesedge {medians[0]:.2f} t/s, llama-bench {medians[1]:.2f}, {ratio:.3f} x ({runs} pairs)",
                flush=True,
            )
            found[name] = pairs
    print(json.dumps(found))


def rate(command: list[str]) -> float:
    """Run llama-bench once; returns tokens a second."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    (row,) = json.loads(done.stdout)
    return float(row["avg_ts"])


if __name__ == "__main__":
    main()
