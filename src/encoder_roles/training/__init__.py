"""Training a model of any subset: one loop, two engines (torch, DeepSpeed)."""
