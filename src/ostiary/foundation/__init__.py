"""What every package may lean on: errors, secrets, time, ids, limits, paths, settings, logging."""
