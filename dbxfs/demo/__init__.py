"""The embedded Dropbox: a strict stand-in for the HTTP API, for demo, tests and benches."""
