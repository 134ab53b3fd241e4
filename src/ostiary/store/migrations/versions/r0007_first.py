"""The store as the first release has it. A change of a table begins here, with its old form.

`tests/store/versions` holds each version to what it was. Those before this one were made while nothing was released.
"""

from alembic import op

import ostiary.store.tables  # noqa: F401 - registers every table
from ostiary.store.database import METADATA

revision = "0007"
down_revision = None


def upgrade() -> None:
    METADATA.create_all(op.get_bind(), checkfirst=False)
