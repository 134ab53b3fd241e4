"""Plans from policies written in tests."""

from ostiary.compile.plan import compile_policy
from ostiary.plan.model import Plan
from ostiary.policy.model import Policy
from ostiary.policy.parse import parse

HEAD = """\
policy: acme
systems:
  erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}
  shop: {kind: openapi, at: shop.example.com, upstream: "https://shop.internal", spec: shop.yaml}
departments: {sales: {}, finance: {}}
contexts:
  office: {days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}
  night: {hours: "22:00-06:00", zone: Europe/Berlin}
  home: {networks: [203.0.113.0/24, "2001:db8::/32"]}
"""


def policy_of(text: str, head: str = HEAD) -> Policy:
    parsed = parse(head + text, "acme.yaml")
    assert parsed.policy is not None, [str(one) for one in parsed.problems]
    return parsed.policy


def plan_of(text: str, head: str = HEAD) -> Plan:
    return compile_policy(policy_of(text, head))
