from real_tryton import tryton  # noqa: F401
from running import folder, site  # noqa: F401
