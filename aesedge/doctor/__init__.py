"""Checks of the user's machine: whether it can run a bundle, what makes it slower, whether reuse is exact.

checks.py             bundle, libraries, memory, cache folder, network: the short examination
network.py            no socket is open, nothing is reported
libraries.py          what the installed libraries were built with
advice.py             what would be faster, with commands (build_advice.py: other builds of the libraries)
reuse_checks.py       reuse against cold, step by step, in a temporary folder:
  bundle_under_test.py  the model, opened over caches of its own; what it says cold
  probe.py              what is asked: a given text's likelihood, and the score
  difference.py         how far two readings are apart, and may be
  batch_noise.py        what the backend changes by itself
  reuse.py              every tier of reuse
  eviction_order.py     several photos in every order
  corruption.py         damaged cache files, which must not be believed
  concurrency_check.py  two processes on one folder

What a machine has, and what disturbs measurements on it, is read by :mod:`aesedge.system`.
"""

from aesedge.doctor.advice import Advice, advice
from aesedge.doctor.checks import Finding, examine_machine
from aesedge.doctor.difference import Check, Difference, Floors
from aesedge.doctor.libraries import Libraries, libraries
from aesedge.doctor.reuse_checks import CacheExamination, CacheReport
from aesedge.system.hardware import Hardware, hardware
from aesedge.system.measurement_noise import NoiseSource, disturbances

__all__ = [
    "Advice",
    "CacheExamination",
    "CacheReport",
    "Check",
    "Difference",
    "Finding",
    "Floors",
    "Hardware",
    "Libraries",
    "NoiseSource",
    "advice",
    "disturbances",
    "examine_machine",
    "hardware",
    "libraries",
]
