"""One conformance suite for the Dropbox HTTP API v2, driven by the official SDK.

It runs against the embedded server, and against Dropbox itself when DBXFS_CONFORMANCE_TOKEN holds
an access token: then inside a fresh scratch folder that is removed at the end, and without the
tests that need the embedded server's control routes.

What it holds the service to is what the SDK documents: every reply is decoded by the SDK's
validators (strictly, against the embedded server: no field and no tag that the SDK does not know),
and where the SDK's documentation states an error that a client can provoke, a table here provokes
it. Where the documentation leaves a choice, the tests accept each reading of it and say so.
"""
