"""The embedded Dropbox: an ASGI application that speaks the Dropbox HTTP API v2."""
