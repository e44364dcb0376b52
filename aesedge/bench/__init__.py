"""How fast is this machine, from the kernel to the photo? Measures a loaded bundle; prints nothing.

result.py     what a run found, and its file
"""
