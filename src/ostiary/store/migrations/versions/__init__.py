"""One module for each version of the store, the oldest first."""
