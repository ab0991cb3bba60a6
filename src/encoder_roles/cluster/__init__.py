"""Slurm: settings of a site, checks before a run, leftover jobs. Only this room calls Slurm."""
