"""The document: one policy, readable aloud."""
