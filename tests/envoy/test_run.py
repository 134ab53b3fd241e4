"""What Envoy needs of the machine is looked at before it starts."""

import pytest

from ostiary.envoy.run import check_watches
from ostiary.foundation.errors import SystemFault


def test_a_user_who_has_no_inotify_instance_left_is_told_so():
    check_watches()
    with pytest.raises(SystemFault, match="max_user_instances"):
        check_watches(100_000)
    check_watches()  # the probe leaves nothing taken
