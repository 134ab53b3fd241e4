from real_tryton import tryton  # noqa: F401
from tryton_pair import pair  # noqa: F401
