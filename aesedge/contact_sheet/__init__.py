"""Make a contact sheet of a library: one page that opens from a disk without a network, and what is decided on it.

judged photos ─▶ entries.py (what the page knows) ─▶ thumbnails.py ─▶ sheet.py + page/ ─▶ index.html, thumbs/
decisions.json ─▶ decisions.py ─▶ aesedge/xmp: the same edits and journal as stars
"""
