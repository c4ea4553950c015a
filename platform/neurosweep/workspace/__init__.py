"""Git state and immutable code snapshots."""
