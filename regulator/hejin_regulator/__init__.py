"""The regulator: admission, charter, verification."""
