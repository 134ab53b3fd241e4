"""The append-only audit log: who changed what, when, with proof that nobody rewrote it."""
