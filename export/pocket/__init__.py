"""The room where pocket, the embedded default model, is made: photos, faults, words, training, figures.

It knows torch and transformers; it does not know ONNX, GGUF or the runtime: a sibling room exports its checkpoint.
"""
