"""Measure how fast this machine is with a bundle, from the kernels to the photo.

benchmark.py     one run, step by step
fixture.py       an open model, a photo in its KV cache, photos that it has not seen
timing.py        every timed row; rounds.py repeats rows, and pairs of two programs, in turns
run_info.py      machine, libraries, files and settings; ceilings.py, power.py
quality.py       what the measured setting changes in scores and texts
predict.py       other types and image token counts, by calculation
kernels.py       the native kernels at the model's shapes, in a clone
result.py        the result and its JSON file; tables.py and output_formats.py write it, chart.py draws it
compare.py       two results: differences beyond chance; for CI, ratios within one run
"""
