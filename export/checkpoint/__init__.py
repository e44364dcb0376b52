"""Reads checkpoints: every layout of LLaVA-1.5, tensor by tensor; knows no bundles."""

from .. import urllib3_import  # noqa: F401 (before huggingface_hub and transformers, which import urllib3)
