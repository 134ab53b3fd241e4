from running import folder, site  # noqa: F401
