"""What Envoy needs of the machine is looked at before it starts; one that takes its time is told so."""

import os
import resource

import pytest

from ostiary.envoy import daemon
from ostiary.envoy.daemon import check_watches
from ostiary.envoy.resource import Edge
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Home


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


def test_an_envoy_that_does_not_come_to_an_end_reading_a_configuration_is_told_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(daemon, "VALIDATE_TIMEOUT_S", 0.1)
    slow = tmp_path / "envoy"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o700)
    edge = Edge(
        listen="127.0.0.1", port=1, host="h", certificate=slow, key=slow, issuer="i", home=Home(root=tmp_path / "h")
    )
    nothing = {"lds.json": {"resources": []}, "cds.json": {"resources": []}}
    with pytest.raises(SystemFault, match="nothing was changed") as problem:
        daemon.Gate(slow, edge).validate(nothing)
    assert problem.value.hint
