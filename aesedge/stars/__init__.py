"""Offer the catalogue's scores to photo programs as stars, labels and keywords in XMP, and take them back.

judged photos ─▶ cut_points.py (stars) ─▶ offer.py (properties) ─▶ plan.py (which files, what a person has set)
                                                                        │
aesedge/xmp: edits and journal ◀── undo.py ◀──────────────────── writing.py
"""
