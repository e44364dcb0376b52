"""Evaluate a bundle against people: their ratings of photographs, and AesBench's questions.

ratings_table.py  tables of photographs and human scores, as their publishers wrote them
ratings.py        score the photographs of a table; what the scores and the ratings have in common
aesbench.py       AesBench's questions as its authors and VLMEvalKit distribute them; prompts and answer matching
benchmark.py      ask a bundle AesBench's questions
statistics.py     correlations with intervals, logistic fit, pairs, calibration, McNemar's test
item_log.py       what was done so far, kept line by line, so that an evaluation can be resumed
compare.py        the same photographs under several settings
charts.py         scatter plot and calibration
"""
