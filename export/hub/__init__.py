"""Downloads checkpoints from huggingface.co and has them exported; knows no tensors."""
