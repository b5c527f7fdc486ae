"""Dropbox over HTTP: requests, authorisation, errors, retries, lanes."""
