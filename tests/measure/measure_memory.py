"""Compare the memory estimate of a bundle with the peak of a process that looks, scores and asks four questions.

    python tests/measure/measure_memory.py BUNDLE [--gguf TYPE] [--vision TYPE] [--ctx N] [--kv-type TYPE]
        [--image-tokens N] [--photo FILE] [--max-tokens N]

Run it in a process of its own: the peak is the process's. Linux only. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from aesedge.bundle.bundle import open_bundle
from aesedge.config.memory import estimate
from aesedge.config.options import Options
from aesedge.config.planning import make_plan
from aesedge.engine.model import Model
from aesedge.samples import SAMPLE_PHOTOS

# About a full batch for a tokenizer that makes a token of a letter: what was reserved for one is then touched.
QUESTIONS = [
    f"Look at this photo once more, please, {n}. What would you tell the person who took it about the light, the "
    "colors and the composition, and what should they do in another way the next time they stand there?"
    for n in ("from near", "from far", "as a friend", "as a judge")
]


def resident(field: str) -> int:
    """Return a figure of this process in bytes; ``ru_maxrss`` would begin with what the parent process had."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"/proc/self/status has no {field}")
    return int(found[1]) << 10


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--gguf")
    parser.add_argument("--vision", default="auto")
    parser.add_argument("--ctx", type=int)
    parser.add_argument("--kv-type")
    parser.add_argument("--image-tokens", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--photo", type=Path, default=SAMPLE_PHOTOS[0])
    parser.add_argument("--max-tokens", type=int, default=4)
    return parser.parse_args()


def main() -> None:
    """Estimate, measure, print."""
    args = arguments()
    bundle = open_bundle(args.bundle)
    options = Options(
        gguf=args.gguf,
        vision=args.vision,
        image_tokens=args.image_tokens,
        ctx=args.ctx,
        kv_type=args.kv_type,
        device="cpu",
        threads=args.threads,
    )
    plan = make_plan(options, bundle)
    expected = estimate(bundle, plan)
    with Model(bundle, options) as model, model.look(args.photo) as photo:
        photo.score()
        photo.ask_many(QUESTIONS, max_tokens=args.max_tokens)
        peak, at_end, anonymous = resident("VmHWM"), resident("VmRSS"), resident("RssAnon")
    print(f"{bundle.name}: {plan.gguf}, vision {plan.vision}, {expected.n_ctx} cells, KV {plan.kv_type}")
    for name, n_bytes in expected.parts.items():
        print(f"  {name:24}{n_bytes / 1e6:9.1f} MB")
    print(f"  {'needed':24}{expected.needed_bytes / 1e6:9.1f} MB")
    print(f"  {'copied pages of the file':24}{expected.reclaimable_bytes / 1e6:9.1f} MB")
    print(f"  {'estimated peak':24}{expected.peak_bytes / 1e6:9.1f} MB")
    error = expected.peak_bytes / peak - 1
    print(f"  {'measured peak':24}{peak / 1e6:9.1f} MB, the estimate is {100 * error:+.1f} % off")
    print(f"  {'at the end':24}{at_end / 1e6:9.1f} MB, of it not in files {anonymous / 1e6:.1f} MB")
    print(json.dumps({"estimate": expected.peak_bytes, "peak": peak, "parts": expected.parts, "error": error}))


if __name__ == "__main__":
    main()
