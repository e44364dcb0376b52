"""Estimate the memory of a plan before it is loaded, and check that it fits.

dry_run.py asks llama.cpp for its buffers; weights_and_kv_cache.py adds the weights, estimate.py the rest; fit.py
compares the sum with the machine and the user's budget, and suggestions.py finds what fits where it does not.
"""

from aesedge.config.memory.estimate import MemoryEstimate, estimate
from aesedge.config.memory.fit import Fit, check_fit, limits_now, parse_memory

__all__ = ["Fit", "MemoryEstimate", "check_fit", "estimate", "limits_now", "parse_memory"]
