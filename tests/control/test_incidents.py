"""Published ways into ERP systems, sent at a gate that opens what an integration needs: none of them reaches the system.

Each test case is named by its CVE. The requests are made after the published descriptions; what kept them out is that
nothing is open but what a description names, whoever asks and however the path is spelt.
"""

import json
from http import HTTPStatus

import pytest
from tools.caller import basic

from ostiary.foundation.secret import Secret
from ostiary.plan.decide import Reason
from running import RUNNING

pytestmark = RUNNING
TEXT = {"type": "string", "pattern": "^[A-Za-z0-9 -]{1,40}$"}
# What an integration with each needs: customers and orders of ERPNext, one service of SAP's, vendors of NetSuite's.
OPEN = {
    "next": ["GET /api/resource/Customer", "POST /api/resource/Customer", "GET /api/resource/Customer/{name}"],
    "sap": ["GET /sap/opu/odata/sap/API_BUSINESS_PARTNER/A_BusinessPartner"],
    "ebs": ["GET /webservices/rest/orders"],
    "netsuite": ["GET /services/rest/record/v1/vendor", "PATCH /services/rest/record/v1/vendor/{id}"],
}
SYSTEM = '  {name}: {{kind: openapi, at: localhost/{name}, upstream: "{upstream}", spec: specs/{name}.json}}\n'
METHOD = "/next/api/method/erpnext"
PAYMENT = json.dumps({"dt": "Sales Invoice", "dn": "SINV-1", "company": "Another GmbH"})
INCIDENTS = {
    "CVE-2026-124313 linked payments": ("POST", f"{METHOD}.accounts.utils.get_linked_payments_for_doc", PAYMENT),
    "CVE-2026-124315 items of a bill of materials": ("POST", f"{METHOD}.manufacturing.doctype.bom.bom.get_bom_items", "{}"),
    "CVE-2026-124316 material requests": ("GET", f"{METHOD}.stock.doctype.material_request.get_linked_material_requests", ""),
    "CVE-2026-109376 time sheets": ("GET", f"{METHOD}.projects.doctype.timesheet.timesheet.get_timesheet_html?name=TS-1", ""),
    "CVE-2026-109637 stopping work orders": ("POST", f"{METHOD}.manufacturing.doctype.work_order.stop_unstop", "{}"),
    "CVE-2026-27471 methods for guests": ("GET", f"{METHOD}.utilities.get_data?dt=User&dn=Administrator", ""),
    "CVE-2026-63654 approving by GET": ("GET", "/next/api/method/frappe.model.workflow.bulk_workflow_approval?docnames=[1]", ""),
    "CVE-2026-49394 pages": ("POST", "/next/api/method/frappe.desk.desktop.update_page", '{"name": "Home"}'),
    "CVE-2026-44446 SQL in a filter": ("GET", "/next/api/resource/Customer/x'%20or%201=1--", ""),
    "CVE-2026-44447 SQL in an order": ("GET", "/next/api/resource/Customer?order_by=name%20desc,(select%201)", ""),
    "frappe: cmd on any path": ("POST", "/next/api/resource/Customer?cmd=frappe.client.get_password", "{}"),
    "frappe: cmd in a body": ("POST", "/next/api/resource/Customer", '{"cmd": "frappe.client.get_password"}'),
    "frappe: a method of a record": ("GET", "/next/api/resource/Customer/A?run_method=delete", ""),
    "frappe: backups": ("GET", "/next/backups/20260303_database.sql.gz", ""),
    "CVE-2025-31324 upload of a program": ("POST", "/sap/developmentserver/metadatauploader?CONTENTTYPE=MODEL", "x"),
    "CVE-2025-42957 function modules": ("POST", "/sap/sap/bc/soap/rfc", "<x/>"),
    "sap: another method in a header": ("GET", "/sap/sap/opu/odata/sap/API_BUSINESS_PARTNER/$batch", ""),
    "CVE-2025-61882 servlets": ("POST", "/ebs/OA_HTML/SyncServlet", "x"),
    "netsuite: records by search": ("POST", "/netsuite/services/rest/query/v1/suiteql", '{"q": "SELECT * FROM employee"}'),
    "netsuite: approving by a field": ("PATCH", "/netsuite/services/rest/record/v1/vendor/7", '{"approvalStatus": 2}'),
    "netsuite: scripts": ("GET", "/netsuite/app/site/hosting/restlet.nl?script=1&deploy=1", ""),
}  # fmt: skip
STOPPED = {
    (HTTPStatus.UNAUTHORIZED, Reason.TOKEN_MISSING),
    (HTTPStatus.FORBIDDEN, Reason.UNKNOWN_OPERATION),
    (HTTPStatus.BAD_REQUEST, Reason.INVALID),
}
SPELT = [
    "//{0}",
    "/{0}/",
    "/./{0}",
    "/x/../{0}",
    "/%2e/{0}",
    "/{0};a=b",
    "/{0}%00",
    "/{0}%2f",
    "/{0}%252f",
    "/{0}?",
    "/{0}#a",
]


def described(calls):
    """A document of these operations: a body is a customer's or a vendor's name, and nothing else."""
    paths = {}
    for method, _, path in (call.partition(" ") for call in calls):
        named = (
            [{"name": path.partition("{")[2][:-1], "in": "path", "required": True, "schema": TEXT}]
            if "{" in path
            else []
        )
        one = {"x-ostiary": {"object": "thing", "verb": "read" if method == "GET" else "write"}, "parameters": named}
        if method != "GET":
            schema = {"type": "object", "properties": {"name": TEXT}, "additionalProperties": False}
            one["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        paths.setdefault(path, {})[method.lower()] = one
    return json.dumps({"openapi": "3.1.0", "paths": paths})


@pytest.fixture
def gate(site):
    """Before the four systems, with a role that may do all that is open."""
    systems = ""
    for name, calls in OPEN.items():
        (site.spec.parent / f"{name}.json").write_text(described(calls))
        systems += SYSTEM.format(name=name, upstream=f"http://127.0.0.1:{site.upstream.server_port}")
    may = ", ".join(f'"{name}/thing: read, write"' for name in OPEN)
    text = site.policy()
    for name in ("order", "stock", "invoice"):
        text = text.replace(f'"{name}:', f'"shop/{name}:')
    integration = f"  integration: {{level: user, of: sales, may: [{may}]}}\n"
    text = text.replace("systems:\n", f"systems:\n{systems}").replace("roles:\n", f"roles:\n{integration}")
    site.apply(text)
    if "integration" not in site.secrets:
        site.secrets["integration"] = Secret(
            site.ask("client.add", client_id="integration", roles=["integration"])["client_secret"]
        )
    return site


def token(gate, path):
    """Of who may do all that is open, for the system that the path leads to."""
    fields = {"grant_type": "client_credentials", "resource": f"https://localhost/{path.split('/')[1]}"}
    caller = gate.caller()
    return caller.form("/identity/token", basic=basic("integration", gate.secrets["integration"]), **fields).json()[
        "access_token"
    ]


@pytest.mark.standard("D1")
@pytest.mark.standard("D7")
@pytest.mark.parametrize("incident", INCIDENTS)
def test_it_is_stopped_for_anybody_and_for_who_may_do_all_that_is_open(gate, incident):
    method, path, body = INCIDENTS[incident]
    seen = len(gate.upstream.seen)
    anybody = gate.once(method, path, body.encode())
    assert (anybody.status, anybody.headers["ostiary-reason"]) in STOPPED
    answer = gate.once(method, path, body.encode(), token=token(gate, path))
    assert (answer.status, answer.headers["ostiary-reason"]) in STOPPED
    assert len(gate.upstream.seen) == seen


@pytest.mark.parametrize("spelt", SPELT)
@pytest.mark.parametrize("incident", [one for one in INCIDENTS if one.startswith("CVE-2025")])
def test_no_spelling_of_its_path_opens_it(gate, incident, spelt):
    method, path, body = INCIDENTS[incident]
    system, _, inside = path[1:].partition("/")
    seen = len(gate.upstream.seen)
    answer = gate.once(method, f"/{system}{spelt.format(inside)}", body.encode(), token=token(gate, path))
    assert 400 <= answer.status < 500
    assert len(gate.upstream.seen) == seen


@pytest.mark.parametrize("call", [(name, call) for name, calls in OPEN.items() for call in calls])
def test_what_is_open_passes(gate, call):
    system, (method, _, path) = call[0], call[1].partition(" ")
    body = b"" if method == "GET" else b'{"name": "ACME"}'
    path = f"/{system}{path}".replace("{name}", "ACME").replace("{id}", "7")
    assert gate.once(method, path, body, token=token(gate, path)).status == 200
