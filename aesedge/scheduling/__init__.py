"""One thread that batches every request, and the KV cache it works in."""
