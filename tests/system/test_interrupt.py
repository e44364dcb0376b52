"""Ctrl-C while a native library is imported waits until it is loaded: half of one is neither an answer nor an error."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background ignores it

class Press:  # Ctrl-C, when this part of the library is looked for
    asked = []

    def find_spec(self, name, path, target=None):
        self.asked.append(name)
        if name == "{part}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
import aesedge.llm.binding as binding
import aesedge.vision.providers as providers
try:
    {load}
except KeyboardInterrupt:
    print("stopped, having gone on:", Press.asked[-1] != "{part}")
"""


@pytest.mark.parametrize(
    ("load", "part"),
    [
        ("providers.load_onnxruntime()", "onnxruntime.capi.onnxruntime_pybind11_state"),
        ("binding.load()", "llama_cpp.llama_cpp"),
    ],
)
def test_ctrl_c_while_a_library_is_imported(load: str, part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(load=load, part=part)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "stopped, having gone on: True\n", done.stderr
