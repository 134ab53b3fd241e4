"""What the command leaves on the disk: of a secret nothing, neither in the installation nor at home with who types it."""

import base64

import pytest

from ostiary.foundation.secret import Secret
from running import RUNNING

pytestmark = RUNNING


def made(site, home):
    """A morning with every command that shows a secret, and with what uses one; the secrets."""

    def say(*arguments, given=""):
        done = site.ostiary(*arguments, "--json", given=given, environment={"HOME": str(home)})
        assert done.code == 0, done.err
        return done.json

    yield say("client", "add", "keeps", "--role", "visitor")["client_secret"]
    secret = say("client", "rotate", "keeps")["client_secret"]
    key = say("client", "add", "keeps-key", "--api-key", "--role", "visitor")["client_secret"]
    yield from (secret, key, *say("registration", "open", "keeps", "--scope", "shop/stock:read")["tokens"])
    certificate = say("client", "certificate", "keeps")
    yield "".join(certificate["key"].splitlines()[1:-1])
    password = "Kept-nowhere-at-all"
    say("user", "add", "keeps", "--password-file", "-", given=password)
    say("client", "account", "keeps", "--system", "shop", "--login", "keeps", "--password-file", "-", given=password)
    site.secrets["keeps"] = Secret(secret)
    token = site.fresh("keeps")
    yield from (password, token)
    for shown in (token, key):
        assert site.once("GET", "/shop/stock", token=shown).status == 200
        refused = site.once("GET", "/shop/invoices", token=shown)
        say("explain", refused.decision)
    say("token", "revoke", "--principal", "client:keeps")
    for gone in (
        ("client", "remove", "keeps", "--yes"),
        ("client", "remove", "keeps-key", "--yes"),
        ("user", "remove", "keeps", "--yes"),
        ("registration", "close", "keeps"),
    ):
        say(*gone)


def written(*folders):
    """What all files there hold, a line break or not."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield path.read_bytes().replace(b"\\n", b"").replace(b"\n", b"")


@pytest.mark.standard("A8")
def test_the_command_keeps_no_token_and_no_secret(site, tmp_path):
    """It needs no keyring: it speaks over a socket, as the user that the kernel names, and holds nothing to show."""
    secrets = list(made(site, tmp_path))
    assert len(secrets) == 7
    assert all(len(one) > 16 for one in secrets)
    found = b"\0".join(written(site.home.root, tmp_path))
    assert b"client:keeps" in found  # it is looked at what is written
    assert [one[:12] for one in secrets if one.encode() in found] == []
    assert [one[:12] for one in secrets if base64.b64encode(one.encode())[:-4] in found] == []
    assert list(tmp_path.rglob("*")) == []
