"""Find the settings that are fastest on this machine for a bundle, by measuring.

tuner.py        a greedy sweep from a bundle to a profile
search.py       one change at a time against the best so far, within a time budget
candidates.py   the changes that are worth trying on this hardware
comparison.py   two settings in turns on the same steps, who is faster, and whether scores move
steps.py        what is timed: rows of a photo, the rating question, decoded tokens
runners.py      towers and language models, opened and timed as long as memory has room
token_curve.py  what fewer image tokens cost on photos
"""

from aesedge.tuning.tuner import DEFAULT_SECONDS, tune

__all__ = ["DEFAULT_SECONDS", "tune"]
