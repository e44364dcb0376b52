"""Decide how a bundle is loaded: options, plan, tuned profile, memory."""
