"""The policy document: read with positions, checked as a whole, formatted, described for editors."""
