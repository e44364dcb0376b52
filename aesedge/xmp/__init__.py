"""Read and edit XMP beside and inside photos, so that every byte that is not ours stays, and every edit can be undone.

photo ─▶ sidecar.py (which file) ─▶ parsing.py (bytes with their ranges) ─▶ packet.py (one edit) ─▶ replacement.py
                                                                                  │
embedded.py, jpeg.py (packets inside photos)              journal.py (what was there before) ◀─┘
"""
