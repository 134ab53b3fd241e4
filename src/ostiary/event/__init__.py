"""What happened: frozen records and their names."""
