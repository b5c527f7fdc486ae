"""Tasks that carry state between the store and Dropbox: feed, fetcher, replicator."""
