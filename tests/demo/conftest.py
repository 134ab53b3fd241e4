from real_tryton import tryton  # noqa: F401
