"""The study: the config as typed, validated settings; subsets, masks, seeds. Only this reads the config."""
