"""Writes language models as GGUF files: types, quantization, importance of inputs; knows no images but as rows."""
