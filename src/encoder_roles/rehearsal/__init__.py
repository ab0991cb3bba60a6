"""A study in small before it is run: a few steps of its largest jobs, measured against its plan."""
