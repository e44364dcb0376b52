"""Compare bundles with PyTorch, or with their own most precise files."""

from .. import urllib3_import  # noqa: F401 (before huggingface_hub and transformers, which import urllib3)
