"""Everything from outside: fetched or copied, checked, pinned by hash, staged for the study."""
