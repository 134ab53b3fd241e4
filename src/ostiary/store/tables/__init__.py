"""The tables, one module for each owner; importing this package registers them all."""

from ostiary.store.tables import audit, control, directory, guard, identity, monitor

__all__ = ["audit", "control", "directory", "guard", "identity", "monitor"]
