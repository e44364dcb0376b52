"""Compares bundles with PyTorch, or with their own most precise files; makes nothing."""
