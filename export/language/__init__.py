"""Write language models as GGUF files: quantization types, quantization, importance matrices."""
