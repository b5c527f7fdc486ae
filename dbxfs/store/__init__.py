"""The owners of all state on disk: the tree and journal, staged bytes, cached blocks."""
