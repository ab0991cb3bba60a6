"""The cost of a study before it runs: parameters, FLOPs, bytes, GPU-hours."""
