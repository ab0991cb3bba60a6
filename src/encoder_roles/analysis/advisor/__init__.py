"""Which subset to train next: scores of untrained subsets predicted from those trained."""
