"""Tests of the embedded Dropbox from inside: its feed, its durability, its bad behaviour."""
