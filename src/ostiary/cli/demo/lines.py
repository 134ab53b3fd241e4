"""What the demo prints: each command can be pasted into a second terminal as it stands."""

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from ostiary.cli.demo.stand import PORTAL, PORTAL_REDIRECT, Stand
from ostiary.cli.shape import pasteable

COMMANDS: Final = ("explain ID", "event list", "policy diff", "policy apply")


def lines(about: str, on: Stand) -> str:
    """What can be tried: with the `gate`, while the ERP is still being built; with the `erp`, when that answers."""
    verifier = secrets.token_urlsafe(48)
    told = {command.replace(" ", "_"): pasteable(command, on.home.root) for command in COMMANDS}
    # HTTP/1.1: an older curl hides a refusal that comes before the body is sent behind an error of HTTP/2.
    told |= {"curl": f"curl --http1.1 --cacert {on.authority}", "portal": PORTAL, "redirect": PORTAL_REDIRECT}
    told |= {"verifier": verifier, "sign_in": authorization(PORTAL, PORTAL_REDIRECT, verifier)}
    return Path(__file__).with_name(f"{about}.txt").read_text("utf-8").format(on=on, **told)


def authorization(client: str, redirect: str, verifier: str, **more: str) -> str:
    """Where a browser begins to sign in: a path and its query, with PKCE (RFC 7636)."""
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {"response_type": "code", "client_id": client, "redirect_uri": redirect, "code_challenge": challenge}
    return f"/identity/authorize?{urlencode({**asked, 'code_challenge_method': 'S256', **more})}"
