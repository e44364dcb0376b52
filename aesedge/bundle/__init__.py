"""Bundles on disk: manifest, checksums, and what the headers of their files say."""
