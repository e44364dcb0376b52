"""Read bundles: manifest, checksums, and the headers of their model files."""
