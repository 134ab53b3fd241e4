"""A described API through the running gate, called by its description and against it: schemathesis knows which is which."""

import re

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from ostiary.guard.validation import DANGEROUS
from ostiary.plan.decide import Reason
from running import RUNNING, SPEC

SCHEMA = schemathesis.openapi.from_dict(yaml.safe_load(SPEC))
TIMEOUT_S = 30
HUGE = re.compile(r"\d{31}|e[+-]?\d{3}")  # digits of a number in a path or query: refused whatever is described
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
many = settings(max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck))
pytestmark = RUNNING


def send(site, case):
    """What meets the description reaches the system; what does not is refused, in our words, and never by a failure."""
    headers = {"authorization": f"Bearer {site.token('clerk')}"}
    answer = case.call(base_url=f"{site.origin}/shop", headers=headers, verify=str(site.authority), timeout=TIMEOUT_S)
    assert answer.status_code == 200 or Reason(answer.headers["ostiary-reason"][0])
    checks = [not_a_server_error, negative_data_rejection]
    if not refused_all_the_same(case):
        checks.append(positive_data_acceptance)
    case.validate_response(answer, checks=checks)


def refused_all_the_same(case):
    """Characters that no business text needs (D3), and numbers that no two readers take alike."""
    sent = [*walked(case.body), *walked(dict(case.query)), *walked(dict(case.path_parameters))]
    return any(DANGEROUS.search(str(one)) or HUGE.search(str(one)) for one in sent)


def walked(value):
    match value:
        case dict():
            return [one for key, part in value.items() for one in (key, *walked(part))]
        case list():
            return [one for part in value for one in walked(part)]
        case _:
            return [value]


@pytest.mark.standard("D1")
@SCHEMA.parametrize()
@few
def test_by_the_description_it_passes_and_against_it_it_does_not(site, case):
    send(site, case)


@pytest.mark.long
@SCHEMA.parametrize()
@many
def test_so_do_thousands(site, case):
    send(site, case)
