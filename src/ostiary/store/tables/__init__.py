"""The tables, one module for each owner; importing this package registers them all."""

from ostiary.store.tables import directory

__all__ = ["directory"]
