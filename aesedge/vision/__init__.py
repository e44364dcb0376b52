"""Encode photos to image embeddings: the vision tower, and the encoder with its cache."""
