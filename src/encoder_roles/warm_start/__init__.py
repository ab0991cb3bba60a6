"""Jobs that need not import torch: a parent process has imported it and forks one child per job."""

WARM_VARIABLE = "ENCODER_ROLES_WARM"  # the parent's socket, set by the Snakefile; `off` turns warm starts off
OFF = "off"
