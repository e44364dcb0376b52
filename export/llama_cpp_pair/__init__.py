"""Import a llama.cpp pair (GGUF and mmproj) as a bundle, without PyTorch."""
