"""What the demo prints: each command can be pasted into a second terminal as it stands."""

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import urlencode

from ostiary.cli.demo.stand import PORTAL, PORTAL_REDIRECT, Stand
from ostiary.cli.shape import pasteable


def first_lines(running: Stand) -> str:
    """What can be tried at once: the refusal, while the ERP is still being built."""
    return f"""
The gate stands at {running.origin}. A refused call, and why:

  {_curl(running)} -i -X POST {running.origin}/erp/rpc/

The answer names a decision; put it in place of ID to see what it rests on, and what would have let the call pass:

  {pasteable("explain ID", running.home.root)}
"""


def erp_lines(running: Stand) -> str:
    """What can be tried when the ERP answers."""
    root, origin, call = running.home.root, running.origin, f"{_curl(running)} -s"
    body = '{"id": 1, "method": "model.party.party.search_read", "params": [[], 0, 3, null, ["name"], {}]}'
    verifier = secrets.token_urlsafe(48)
    return f"""
The ERP stands behind it. A token, an allowed call, the events of both:

  TOKEN=$({call} -K {running.shop_file} -d grant_type=client_credentials {origin}/identity/token | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/')

  {call} -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{body}' {origin}/erp/rpc/

  {pasteable("event list", root)}

Users sign in with a browser, here as anna, with the password that this shows:

  grep anna {running.passwords}

  {origin}{authorization(PORTAL, PORTAL_REDIRECT, verifier)}

The browser warns of the demo's own certificate authority, and ends at an address where no application listens. An
application would take the `code` from that address for a token, within a minute: put it in place of CODE.

  {call} -d grant_type=authorization_code -d client_id={PORTAL} -d redirect_uri={PORTAL_REDIRECT} -d code_verifier={verifier} -d code=CODE {origin}/identity/token

Client shop holds the role sales, users anna and ben the role payments. Change {running.home.policy}, then:

  {pasteable("policy diff", root)}
  {pasteable("policy apply", root)}

Ctrl-C stops everything and removes the folder.
"""


def authorization(client: str, redirect: str, verifier: str, **more: str) -> str:
    """Where a browser begins to sign in: a path and its query, with PKCE (RFC 7636)."""
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {"response_type": "code", "client_id": client, "redirect_uri": redirect, "code_challenge": challenge}
    return f"/identity/authorize?{urlencode({**asked, 'code_challenge_method': 'S256', **more})}"


def _curl(running: Stand) -> str:
    """HTTP/1.1: an older curl hides a refusal that comes before the body is sent behind an error of HTTP/2."""
    return f"curl --http1.1 --cacert {running.authority}"
