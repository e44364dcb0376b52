"""Measure how fast this machine is with a bundle, from the kernels to the photo.

benchmark.py     a run, step by step
  card.py          machine, libraries, files, settings; ceilings.py, power.py, peak_memory.py
  subject.py       what is measured: an open model, a photo in its KV cache, photos that it has not seen
  rounds.py        tests take turns: image_tests.py, language_tests.py, photo_tests.py
  quality.py       what the measured setting changes in scores and texts
  pairs.py         another program does the same, in turns
  predict.py       other types and budgets, by calculation
  kernels.py       what kernels_bench measures at the model's shapes, in a clone
result.py        what a run found, and its JSON file
  formats.py       the same for people and programs: figures.py, tables.py, records.py
  chart.py         the same as a picture
compare.py       two results: what is faster by more than chance; regression.py for CI, by ratios
"""
