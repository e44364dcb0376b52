"""The room where pocket, the embedded default model, is made: photos, faults, words, training, figures.

It knows torch and transformers; it does not know ONNX, GGUF or the runtime: a sibling room exports its checkpoint.
"""

from .. import urllib3_import  # noqa: F401 (before huggingface_hub and transformers, which import urllib3)
