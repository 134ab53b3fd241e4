"""What a running installation keeps of what happened, and that nobody changes it unnoticed."""

import json

import pytest

from ostiary.control.installation import opened
from running import APART, RUNNING, installed


@RUNNING
@pytest.mark.standard("F1")
def test_a_request_and_its_answer_a_proof_of_identity_and_a_changed_policy_each_leave_a_record(site):
    answer = site.once("GET", "/shop/stock", token=site.client("recorded", "visitor"))
    event = site.ask("explain", decision=answer.decision)["event"]
    assert (event["method"], event["path"], event["operation"]) == ("GET", "/shop/stock", "shop/stock:read")
    assert (event["subject"], event["status"], event["reason"]) == ("client:recorded", 200, "allowed")
    assert event["bytes_out"] == len(answer.body)
    proofs = [json.loads(line) for line in site.home.identity_log.read_text().splitlines()]
    (given,) = [one for one in proofs if one.get("client") == "recorded" and one["outcome"] == "issued"]
    assert given["source"] == "127.0.0.1"
    assert site.ask("explain", decision=given["decision"])["event"]["path"] == "/identity/token"
    told = site.apply(site.policy(("stock: read", "order: read")), reason="autumn")
    changed = site.ask("audit.list", action="policy.apply", limit=1)[0]
    assert (changed["reason"], changed["after"]["revision"]) == ("autumn", told["revision"])


def read_orders(site, token):
    return site.once("GET", "/shop/orders/7", token=token)


@APART
@pytest.mark.standard("F6")
def test_who_read_what_and_who_gave_the_right_to_is_kept_and_a_change_of_it_is_noticed():
    with installed() as site:
        site.start()
        read = read_orders(site, site.client("reader", "visitor"))
        assert read.reason == "role"
        site.ask("principal.roles", principal="client:reader", roles=["clerk"])
        read = read_orders(site, site.fresh("reader"))
        event = site.ask("explain", decision=read.decision)["event"]
        assert (event["subject"], event["operation"]) == ("client:reader", "shop/order:read")
        given = site.ask("audit.list", action="principal.roles", limit=1)[0]
        assert (given["before"], given["after"]) == ({"roles": ["visitor"]}, {"roles": ["clerk"]})
        assert site.ostiary("audit", "verify").code == 0
        rewritten = "UPDATE audit_leaf SET entry = replace(entry, 'clerk', 'visitor') WHERE action = 'principal.roles'"
        with opened(site.home) as on, on.store.begin() as connection:
            assert connection.exec_driver_sql(rewritten).rowcount == 1
        noticed = site.ostiary("audit", "verify")
        assert noticed.code != 0
        assert "changed" in noticed.err
