"""The command ``aesedge``, and ``python -m aesedge``: Ctrl-C ends them without a traceback, whenever it comes."""

import signal
import sys

# While modules are imported there is nothing to clean up, and Python would print where it was.
_PYTHONS_OWN = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _PYTHONS_OWN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from aesedge.cli import main as _main  # noqa: E402 (see above)
from aesedge.cli.exit_codes import INTERRUPTED  # noqa: E402


def main() -> int:
    """Run the command; Ctrl-C unwinds it while it runs, and ends the process at once before and after that."""
    try:
        if _PYTHONS_OWN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = _main()
        if _PYTHONS_OWN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
