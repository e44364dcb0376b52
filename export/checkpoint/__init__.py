"""Read checkpoints of every LLaVA-1.5 layout, tensor by tensor."""

from .. import urllib3_import  # noqa: F401 (before huggingface_hub and transformers, which import urllib3)
