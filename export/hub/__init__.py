"""Download checkpoints from huggingface.co and export them."""

from .. import urllib3_import  # noqa: F401 (before huggingface_hub and transformers, which import urllib3)
