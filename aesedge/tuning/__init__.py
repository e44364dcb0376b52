"""Which settings are fastest on this machine for this bundle, found by measuring; prints nothing and keeps nothing.

steps.py        what is timed: rows of a photo, the rating question, decoded tokens
trial.py        one way of running the tower or the language model, opened and timed
room.py         whether memory has room for it, alone or beside another
laboratory.py   what is open at a time
duel.py         two ways taking turns on the same steps, and who has won
drift.py        how far scores may move
candidates.py   what is worth trying on this hardware
search.py       duel after duel, for scores and for critiques, within the time
  opener.py       what it needs of whoever opens things
  record.py       what is kept of a duel, and in which words
tuner.py        all of it, from a bundle to a profile
token_curve.py  what fewer image tokens cost on photos
"""

from aesedge.tuning.tuner import DEFAULT_SECONDS, tune

__all__ = ["DEFAULT_SECONDS", "tune"]
