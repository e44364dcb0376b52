"""Is this machine fit, and is reuse exact? Examines a bundle on the user's own machine; prints nothing.

fitness.py            bundle, libraries, memory, cache folder: the short examination
cache_examination.py  reuse against cold, step by step, in a temporary folder:
  patient.py            the model, opened over caches of its own; what it says cold
  probe.py              what is asked: a given text's likelihood, and the score
  difference.py         how far two readings are apart, and may be
  noise.py              what the backend changes by itself
  reuse.py              every tier
  swap.py               several photos in every order
  damage.py             files that must not be believed (remarks.py catches what is said about them)
  visitors.py           two processes on one folder (visitor.py is one of them)
"""

from aesedge.doctor.cache_examination import CacheExamination, CacheReport
from aesedge.doctor.difference import Check, Difference, Floors
from aesedge.doctor.fitness import Finding, examine_machine

__all__ = ["CacheExamination", "CacheReport", "Check", "Difference", "Finding", "Floors", "examine_machine"]
