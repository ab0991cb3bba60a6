"""Every file of a study with its hash and what made it; verify and compare."""
