"""Speed, stated as ratios taken in one run."""
