"""What a study will cost before it is run: parameters, FLOPs, bytes, GPU-hours."""
