"""How large a photo may be: bytes of its file, pixels, either side."""

MAX_BYTES = 256 * 2**20
"""Default limit of a file: above every camera's RAW, and small enough to be held in memory."""
MAX_PIXELS = 2**28
"""Default limit of pixels: the 200 MP of phones fit, and the decoded picture takes at most 1 GiB (4 bytes a pixel).
WebP ends at 179 MP: newer versions of Pillow have their own limit inside that decoder."""
MAX_SIDE = 32_768
"""Limit of either side: to make a strip of that length square and small takes seconds, and four times that for twice
the length."""
