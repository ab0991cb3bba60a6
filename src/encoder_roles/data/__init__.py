"""Training data: samples, prompts, packing, pictures and stored features."""
