"""``python -m aesedge``: the same as the command ``aesedge``."""

import sys

from aesedge.cli import main

sys.exit(main())
