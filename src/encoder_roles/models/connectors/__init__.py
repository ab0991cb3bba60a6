"""Every kind of connector, a file each; `factory` builds the one that the config names."""
