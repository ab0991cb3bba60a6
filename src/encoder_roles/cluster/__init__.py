"""Slurm: what a site offers, what is checked before a run, jobs that outlived their run. Only this calls Slurm."""
