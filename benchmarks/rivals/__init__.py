"""What a user would write instead: the same weights, windows and thresholds, by the usual libraries."""
