"""Evaluate a bundle against people: their ratings of photographs, and AesBench's questions.

ratings_table.py  tables of photographs and human scores, as their publishers wrote them
ratings.py        score the photographs of a table; what the scores and the ratings have in common
aesbench.py       AesBench's questions as its authors and VLMEvalKit distribute them; prompts and answer matching
vlmevalkit.py     VLMEvalKit's tables, with a picture on each row
benchmark.py      ask a bundle AesBench's questions
statistics.py     correlations with intervals, logistic fit, pairs, calibration, McNemar's test
item_log.py       what was done so far, kept line by line, so that an evaluation can be resumed
compare.py        the same photographs or questions under several settings
recommendation.py what a comparison was measured on, for the bundle's manifest
people_line.py    the line from scores to people's ratings, kept on disk
report.py         an evaluation as Markdown
charts.py         scatter plot and calibration, radar chart
published.py      published accuracies
"""
