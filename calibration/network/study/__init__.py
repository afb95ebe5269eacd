"""The study: the thirteen models of the thesis on imbalance and ours, trained and judged on the same webs."""
