"""What the command ``aesedge`` returns to the shell; 0 is that all was done."""

SOME_FAILED = 1
"""Some photos or files failed, each named on stderr; the others are done."""
USAGE = 2
"""The call is wrong, or nothing could be loaded."""
INTERRUPTED = 130
"""Ctrl-C, as shells report it."""
