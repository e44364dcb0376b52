"""Checks of the user's machine: whether it can run a bundle, what would be faster, whether reuse is exact.

checks.py           files, libraries, memory, cache folder, network (network.py): the short examination
libraries.py        what the installed libraries were built with
advice.py           what would be faster, with commands
reuse_checks.py     the proof of reuse, step by step, in a temporary folder; cache_faults.py is a part of it
bundle_under_test.py, probe.py   the model, opened over caches of its own, and what it is asked
difference.py, batch_noise.py    how far readings may be apart, by what the backend changes by itself
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
