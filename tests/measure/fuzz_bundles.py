"""Alter bundles and cache folders at random, and see what the commands make of them; run by hand.

    python tests/measure/fuzz_bundles.py manifest gguf onnx cache --cases 1000 --seed 1

Each case is a tiny bundle with one to three alterations and hashes that are right again, as its maker would have it.
The commands run in a child process with limits of memory and time. Printed is a table: refused in one line, fine,
several lines, traceback, died, hung, and for ``cache`` whether an answer changed. Every case that is neither fine nor
refused in one line is named with its seed; ``--only N`` runs it alone and shows what it printed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from altered_files import alter_cache, alter_gguf, alter_json, alter_onnx

_LIMIT_BYTES, _LIMIT_S = 12 << 30, 90.0
GOOD = ("fine", "refused in one line")


def rehash(folder: Path, name: str) -> None:
    """Let the manifest say of a file what is true of it now."""
    manifest, data = json.loads((folder / "manifest.json").read_bytes()), (folder / name).read_bytes()
    for file in manifest["files"]:
        if file["path"] == name:
            file["bytes"], file["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def made(kind: str, seed: int, base: Path, folder: Path) -> list[list[str]]:
    """Make a case in an empty folder and return the commands to run on it."""
    rng, bundle, photo = random.Random(f"{kind} {seed}"), folder / "home" / "b", str(base / "photo.png")
    shutil.copytree(base / "home", folder / "home")
    score = ["score", "--bundle", str(bundle), "--threads", "1", "--device", "cpu", photo]
    if kind == "manifest":
        path = bundle / "manifest.json"
        path.write_bytes(alter_json(rng, json.loads(path.read_bytes())))
        if rng.random() < 0.1:
            victim = bundle / rng.choice(["manifest.json", "llm-f32.gguf", "vision-fp32.onnx", "card.md"])
            victim.unlink()
            rng.choice([os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero"), lambda p: None])(victim)
        return [["info", str(bundle)], ["info", str(bundle), "--card"], ["bundles"], ["verify", str(bundle)], score]
    if kind == "cache":
        shutil.copytree(base / "cache", folder / "cache")
        alter_cache(rng, folder / "cache")
        return [[*score, "--json"], ["cache"], ["info", str(bundle)], [*score, "--json"]]
    name, alter = ("llm-f32.gguf", alter_gguf) if kind == "gguf" else ("vision-fp32.onnx", alter_onnx)
    (bundle / name).write_bytes(alter(rng, (bundle / name).read_bytes()))
    rehash(bundle, name)
    run = ["run", "--bundle", str(bundle), "--max-tokens", "3", "--threads", "1", "--device", "cpu", photo]
    return [["info", str(bundle)], score, run]


def worker() -> None:
    """Run commands that come as JSON lines, each in this process, and say what came of each."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from aesedge.cli import main

    for line in sys.stdin:
        order = json.loads(line)
        os.environ.update(order["environment"])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code: object = main(order["command"])
            except BaseException:  # noqa: BLE001 (that is what is looked for)
                code = traceback.format_exc()
        answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()


class Worker:
    """A child that runs commands, started again when it dies."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], environment: dict[str, str]) -> tuple[str, str]:
        """Return what came of a command, in a word, and what it printed."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        process = self.process
        process.stdin.write(json.dumps({"command": command, "environment": environment}).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _LIMIT_S)
        line = process.stdout.readline() if ready else b""
        if not line:
            process.kill()
            self.process = None
            return ("died", f"exit {process.wait()}") if ready else ("hung", "")
        answer = json.loads(line)
        text = f"{answer['out']}{answer['err']}"
        if isinstance(answer["code"], str):
            return "traceback", answer["code"]
        if set(text) & set("\x1b\x07\x00\r\u202e"):
            return "steers the terminal", repr(text)
        # A single photo of one that failed is counted in a line of its own.
        n_lines = len([line for line in answer["err"].splitlines() if not line.startswith("0 of 1 photos")])
        if answer["code"] == 0:
            return "fine", text
        return ("refused in one line" if n_lines == 1 else "several lines"), text


def prepare(base: Path) -> None:
    """Make what all cases begin from: a bundle at home, a photo, and a cache folder in use."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import tiny
    from PIL import Image

    bundle = tiny.write_bundle(base / "home" / "b")
    (bundle / "card.md").write_text("# A card\n")
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["files"].append({"path": "card.md", "role": "card", "type": "md", "bytes": 0, "sha256": "0" * 64})
    figures = {"mean_kl": 0.1, "n_top1_equal": 3, "n_positions": 4, "max_score_drift": 0.1, "verdict": "close"}
    manifest["fidelity"] = {
        "checked": True,
        "reference": "PyTorch",
        "photos": ["a.jpg"],
        "stages": [{"stage": "pixels", "figures": {"max_abs_diff": 0.0}, "limits": {"max_abs_diff": 1e-5}}],
        "types": {"F32": {**figures, "without_importance": figures, "stored_otherwise": {"a": "Q8_0"}}},
        "vision": {"fp32": {"min_cosine": 0.99, "limits": {"min_cosine": 0.9}, "layers_in_fp32": ["a"]}},
        "verdicts": {"close": {"mean_kl": 0.035, "max_score_drift": 0.3}},
    }
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    rehash(bundle, "card.md")
    Image.effect_noise((64, 48), 80).convert("RGB").save(base / "photo.png")


def main() -> None:
    """Run cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["manifest", "gguf", "onnx", "cache"])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="Number of the first case.")
    parser.add_argument("--only", type=int, help="One case, with all that it prints.")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker()
        return
    with tempfile.TemporaryDirectory(prefix="aesedge-fuzz-") as top:
        base = Path(top) / "base"
        prepare(base)
        child = Worker()
        places_ = {"AESEDGE_HOME": str(base / "home"), "AESEDGE_CACHE": str(base / "cache")}
        score = ["score", "--bundle", str(base / "home" / "b"), "--threads", "1", "--device", "cpu", "--json"]
        word, before = child.run([*score, str(base / "photo.png")], places_)
        assert word == "fine", before
        seeds = [options.only] if options.only is not None else range(options.seed, options.seed + options.cases)
        for kind in options.kinds:
            table: Counter[str] = Counter()
            try:
                for seed in seeds:
                    run_case(kind, seed, Path(top), child, before, table, show_all=options.only is not None)
            finally:  # Ctrl-C too
                print(kind, dict(table), flush=True)


def run_case(
    kind: str, seed: int, top: Path, child: Worker, before: str, table: Counter[str], *, show_all: bool
) -> None:
    """Make a case, run its commands, and count what came of each."""
    folder = top / "case"
    commands = made(kind, seed, top / "base", folder)
    environment = {"AESEDGE_HOME": str(folder / "home"), "AESEDGE_CACHE": str(folder / "cache")}
    for command in commands:
        word, text = child.run(command, environment)
        if kind == "cache" and "--json" in command and word == "fine":
            scores = [json.loads(printed.splitlines()[0])["score"] for printed in (before, text)]
            word = "fine" if scores[0] == scores[1] else "another answer"
        table[word] += 1
        if show_all or word not in GOOD:
            print(f"{kind} {seed} {command[0]}: {word}: {text[-1500:].strip()}", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
