"""What Envoy needs of the machine is looked at before it starts."""

import os
import resource

import pytest

from ostiary.envoy.binary import check_watches
from ostiary.foundation.errors import SystemFault


def test_a_user_who_has_no_inotify_instance_left_is_told_so():
    """By this process's own limit of descriptors: those of the user are for the Envoys of other tests too."""
    check_watches()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 4, before[1]))
    try:
        with pytest.raises(SystemFault, match="max_user_instances"):
            check_watches()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    check_watches()  # the probe leaves nothing taken
