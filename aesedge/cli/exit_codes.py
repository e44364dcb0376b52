"""Exit codes of the command ``aesedge``; docs/cli.md has the table for users."""

OK = 0
"""All done."""
FAILED = 1
"""Some photos or files failed, or a check, or the work was broken off; stderr says what, and the others are done."""
USAGE = 2
"""The call is wrong, or what it needs cannot be loaded; nothing was done."""
INTERRUPTED = 130
"""Ctrl-C, as shells report it."""
