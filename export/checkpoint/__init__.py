"""Reads checkpoints: every layout of LLaVA-1.5, tensor by tensor; knows no bundles."""
