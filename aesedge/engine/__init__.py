"""A loaded bundle: photos, ratings, answers, conversations."""
