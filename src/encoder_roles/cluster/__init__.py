"""Slurm: what a site offers, what is checked before a run, jobs that outlived it. Only this calls Slurm."""
