"""Writes vision graphs as ONNX files: fused fp32, fp16, int8; knows no language models."""
