"""`make bench`: speed and memory against the limits, each as a ratio to a peer or a bound measured in the same run."""
