"""llama.cpp's bindings are imported while other threads import, too."""

from __future__ import annotations

import subprocess
import sys

WHILE_OTHERS_IMPORT = """
import sys, threading, types
ends = threading.Event()

def import_others():
    n = 0
    while not ends.is_set():
        for n in range(n, n + 50):
            sys.modules[f"other_{n}"] = types.ModuleType("other")
        for name in [f"other_{k}" for k in range(max(0, n - 400), n - 200)]:
            sys.modules.pop(name, None)

sys.setswitchinterval(1e-6)
others = threading.Thread(target=import_others)
others.start()
try:
    from aesedge.llm import binding
    for _ in range(300):
        binding._module.cache_clear()
        binding._module("_ctypes_extensions")
finally:
    ends.set()
    others.join()
"""


def test_import_beside_imports_of_another_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHILE_OTHERS_IMPORT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
