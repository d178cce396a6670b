"""How nightshift is run: environments, the `nightshift` command, the one-machine platform."""
