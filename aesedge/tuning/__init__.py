"""Find the settings that are fastest on this machine for a bundle, by measuring.

tuner.py        from a bundle to a profile
search.py       a greedy sweep: one candidate at a time against the best so far, within a time budget
candidates.py   the changes that are worth trying on this hardware
comparison.py   two settings in turns on the same steps: which is faster, and whether scores move
runners.py      towers and language models, opened and timed as long as memory has room
token_curve.py  what fewer image tokens cost on photos
"""

from aesedge.tuning.tuner import DEFAULT_SECONDS, tune

__all__ = ["DEFAULT_SECONDS", "tune"]
