"""Makes a bundle of a llama.cpp pair, GGUF and mmproj, without PyTorch."""
