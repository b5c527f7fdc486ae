"""dbxfs: a Dropbox account as a local folder."""
