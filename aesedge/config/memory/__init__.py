"""Memory before it is taken: what a plan needs, whether it fits, and what would; loads no weights.

``header`` counts the weights in a GGUF file and ``dry_run`` asks llama.cpp for its buffers; ``language`` makes them the
language model's share and ``estimate`` adds the rest; ``fit`` compares the sum with the machine and the user's budget,
and ``suggestions`` looks for what fits where it does not.
"""

from aesedge.config.memory.estimate import MemoryEstimate, estimate
from aesedge.config.memory.fit import Fit, check_fit, limits_now, parse_memory

__all__ = ["Fit", "MemoryEstimate", "check_fit", "estimate", "limits_now", "parse_memory"]
