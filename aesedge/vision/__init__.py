"""The vision tower, and the encoder that takes a photo to image embeddings."""
