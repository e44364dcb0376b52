"""Downloads checkpoints from huggingface.co and has them exported; knows no tensors."""

from .. import urllib3_import  # noqa: F401 (before huggingface_hub and transformers, which import urllib3)
