from running import site  # noqa: F401
