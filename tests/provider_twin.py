"""An OpenID Connect provider by https that says whatever a test has it say: honest until a part of it is made wrong."""

import base64
import hashlib
import hmac
import json
import ssl
from functools import cache
from html import unescape
from re import search
from urllib.parse import parse_qsl, urlsplit

from certificates import served
from client_keys import KEYS, signed
from ostiary.foundation.proof import LOGOUT
from ostiary.foundation.secret import Secret
from ostiary.identity import providers
from upstream import Echo, Server

CLIENT = "ostiary at acme"
SECRET = "a secret: with % and +"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def key_of(alg):
    """One for all tests: an RSA key takes a while to make."""
    return KEYS[alg]()


class Endless(Echo):
    """Also answers without end, where what is to be said is a list: each of it again and again, a moment apart."""

    def answer(self):
        if not isinstance(endless := self.server.endless.get(self.path), bytes):
            return super().answer()
        self.send_response(200)
        self.end_headers()
        try:
            while self.server.endless:
                self.wfile.write(endless)
        except OSError:
            return None

    do_GET = do_POST = answer  # noqa: N815


class Twin:
    def __init__(self, folder, clock, alg="RS256"):
        certificate, key = served(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.authorities, self.clock = str(certificate), clock
        self.server = Server(("127.0.0.1", 0), Endless)
        self.server.endless = {}
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.issuer = f"https://localhost:{self.server.server_port}"
        self.keys, self.serial = {}, 0
        self.turn(alg)
        self.metadata = {
            "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize?tenant=1",
            "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/jwks",
            "authorization_response_iss_parameter_supported": True,
        }  # fmt: skip
        self.claims = {"sub": "0f-a1", "name": "Anna", "preferred_username": "anna", "groups": ["sales"]}
        self.asked, self.codes, self.instead, self.changed, self.header = {}, set(), {}, {}, {}
        self.server.start(self.reply)

    def close(self):
        self.server.endless = {}
        self.server.stop()

    def turn(self, alg):
        """Signs with a new key from now on, and publishes that alone."""
        self.alg, self.kid = alg, f"key-{len(self.keys)}"
        self.keys = {**self.keys, self.kid: key_of(alg)}
        self.published = [self.kid]

    def fetched(self, path):
        return sum(seen["path"] == path for seen in self.server.seen)

    def reply(self, seen):
        if answer := self.instead.get(seen["path"]):
            return answer() if callable(answer) else answer
        match seen["path"]:
            case "/.well-known/openid-configuration":
                told = self.metadata
            case "/jwks":
                told = {"keys": [{**self.keys[kid].as_dict(private=False), "kid": kid} for kid in self.published]}
            case "/token":
                told = self.redeem(seen, dict(parse_qsl(seen["body"])))
        return (200 if told else 400), {"content-type": "application/json"}, json.dumps(told)

    def redeem(self, seen, form):
        basic = base64.b64encode(b"ostiary%20at%20acme:a%20secret%3A%20with%20%25%20and%20%2B").decode()
        assert seen["headers"]["authorization"] == f"Basic {basic}"
        assert encoded(hashlib.sha256(form["code_verifier"].encode()).digest()) == self.asked["code_challenge"]
        assert form["redirect_uri"] == self.asked["redirect_uri"]
        if form["code"] in self.codes:
            return {}
        self.codes.add(form["code"])
        return {"id_token": self.id_token(), "access_token": "at", "token_type": "Bearer"}

    def sign(self, claims):
        header = {"alg": self.alg, "kid": self.kid, **self.header}
        if header["alg"] in {"none", "HS256"}:
            return self.forged(header, claims)
        return signed(self.keys.get(header["kid"], self.keys[self.kid]), header, claims)

    def forged(self, header, claims):
        """Not signed at all; or by the public key, as if it were a secret."""
        told = {name: value for name, value in claims.items() if value is not None}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (header, told))
        made = hmac.digest(self.keys[self.kid].as_pem(private=False), text.encode(), "sha256")
        return f"{text}.{encoded(made) if header['alg'] == 'HS256' else ''}"

    def id_token(self):
        now = int(self.clock.now().timestamp())
        told = {
            "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": self.asked.get("nonce"),
            "auth_time": now, "sid": "up-1", **self.claims, **self.changed,
        }  # fmt: skip
        return self.sign(told)

    def logout_token(self, **changed):
        now = int(self.clock.now().timestamp())
        self.serial += 1
        told = {
            "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "jti": f"lt-{self.serial}",
            "events": {LOGOUT: {}}, "sid": "up-1", "sub": "0f-a1",
        }  # fmt: skip
        return self.sign({**told, **changed})


class Signing:
    """A world whose people sign in by the twin, called `acme` there."""

    def __init__(self, world, twin):
        self.world, self.twin = world, twin
        facts = {"name": "acme", "issuer": twin.issuer, "client_id": CLIENT, "title": "Acme", "accounts": "jit"}
        facts["maps"] = [("groups", "sales", "clerk"), ("groups", "stock", "packer")]
        told = {"sealer": world.sealer, "one": providers.fit(facts), "secret": Secret(SECRET)}
        world.do(providers.add_provider, **told)

    def begin(self, **asked):
        """Where the button leads: the provider, which remembers what it was asked."""
        page = self.world.authorize(**asked)
        place = unescape(search(r'formaction="([^"]*)"', page.text)[1])
        answer = self.world.ask("POST", urlsplit(place).path, data=self.world.hidden(page))
        assert answer.status_code == 303, answer.text
        self.sent = answer.headers["location"]
        self.twin.asked = dict(parse_qsl(urlsplit(self.sent).query))
        return self.twin.asked

    def back(self, name="acme", **changed):
        """What the person's browser brings back."""
        told = {"code": f"code-{len(self.twin.codes)}", "state": self.twin.asked["state"], "iss": self.twin.issuer}
        told = {key: value for key, value in {**told, **changed}.items() if value is not None}
        return self.world.ask("GET", f"/identity/provider/{name}/callback", params=told)

    def sign_in(self, **asked):
        self.begin(**asked)
        return self.back()

    def forget(self):
        """Another browser."""
        self.world.cookies.clear()

    def tokens(self):
        return self.world.redeem(self.world.sent_back(self.sign_in())["code"]).json()

    def change(self, **facts):
        self.world.do(providers.change_provider, sealer=self.world.sealer, name="acme", **facts)

    def say_logout(self, **changed):
        return self.post(self.twin.logout_token(**changed))

    def post(self, token):
        return self.world.ask("POST", "/identity/provider/acme/logout", data={"logout_token": token})
