"""Offer the catalogue's scores to photo programs as stars, labels and keywords in XMP, and take them back.

judged photos ─▶ cut_points.py (stars) ─▶ labels_and_keywords.py (properties) ─▶ plan.py (files, what a person has set)
                                                                                    │
aesedge/xmp: edits and journal ◀─────────────────────────────────────────────── writing.py
"""
