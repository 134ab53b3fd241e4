"""The gate: what its native path costs, what it doesn't, and how soon a change is in force."""
