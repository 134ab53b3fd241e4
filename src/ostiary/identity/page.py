"""The pages for people: no third party, readable without style and script; in the language the browser asks for."""

import re
from importlib import resources
from typing import Final

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ostiary.foundation.data import beside

POLICY: Final = "default-src 'none'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
HEADERS: Final = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
# One file of ours and no other, which writes no HTML (https://www.w3.org/TR/trusted-types/).
SCRIPTED: Final = "script-src {}; require-trusted-types-for 'script'; trusted-types 'none'"
LANGUAGE: Final = re.compile(r"[a-z]{2}")
SCRIPT_S: Final = 300  # a browser may keep it
_FOLDER: Final = resources.files("ostiary.identity")
TEXTS: Final = beside(__file__)
SCRIPT: Final = _FOLDER.joinpath("passkey.js").read_text("utf-8")
_PAGE: Final = Environment(autoescape=True, trim_blocks=True).from_string(
    _FOLDER.joinpath("page.html").read_text("utf-8")
)


def page(request: Request, name: str, *, status: int = 200, **facts: object) -> HTMLResponse:
    """The page of this name; `problem` is the name of a text, or one of OAuth's own. With `options` the script comes along."""
    wanted = LANGUAGE.findall(request.headers.get("accept-language", "").lower()[:100])
    language = next((one for one in wanted if one in TEXTS), "en")
    text = _PAGE.render(name=name, t=TEXTS[language], language=language, **facts)
    shown = HTMLResponse(text, status, headers=HEADERS)
    if facts.get("options"):
        shown.headers["content-security-policy"] = f"{POLICY}; {SCRIPTED.format(facts['script'])}"
    return shown


def script(_server: object, _request: Request, _body: bytes) -> Response:
    """GET /passkey.js."""
    told = {"cache-control": f"public, max-age={SCRIPT_S}", "x-content-type-options": "nosniff"}
    return Response(SCRIPT, media_type="text/javascript", headers=told)
