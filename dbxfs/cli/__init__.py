"""Commands, the mount helper and the daemon's wiring."""
