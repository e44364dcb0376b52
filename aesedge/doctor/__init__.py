"""Is this machine fit, what slows it down, is reuse exact? Examines the user's own machine; prints nothing.

fitness.py            bundle, libraries, memory, cache folder, network: the short examination
network.py            no socket is open, nothing is reported
hardware.py           what this machine has (instructions.py, gpus.py)
backends.py           what the installed libraries were built with
faster.py             what would be faster, with commands (rebuilding.py: other builds of the libraries)
disturbance.py        what disturbs measurements (symptom.py is one): power_saving.py, throttling.py, load.py
cache_examination.py  reuse against cold, step by step, in a temporary folder:
  patient.py            the model, opened over caches of its own; what it says cold
  probe.py              what is asked: a given text's likelihood, and the score
  difference.py         how far two readings are apart, and may be
  noise.py              what the backend changes by itself
  reuse.py              every tier
  swap.py               several photos in every order
  damage.py             files that must not be believed
  concurrency_check.py  two processes on one folder
"""

from aesedge.doctor.advice import Advice, advice
from aesedge.doctor.checks import Finding, examine_machine
from aesedge.doctor.difference import Check, Difference, Floors
from aesedge.doctor.libraries import Libraries, libraries
from aesedge.doctor.reuse_checks import CacheExamination, CacheReport
from aesedge.system.hardware import Hardware, hardware
from aesedge.system.measurement_noise import Disturbance, disturbances

__all__ = [
    "Advice",
    "CacheExamination",
    "CacheReport",
    "Check",
    "Difference",
    "Disturbance",
    "Finding",
    "Floors",
    "Hardware",
    "Libraries",
    "advice",
    "disturbances",
    "examine_machine",
    "hardware",
    "libraries",
]
