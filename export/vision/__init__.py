"""Write vision graphs as ONNX files: fused fp32, fp16, int8."""

from .. import urllib3_import  # noqa: F401 (before huggingface_hub and transformers, which import urllib3)
