"""The sixteen benchmarks: one table of what they are, and how their rows become questions."""
