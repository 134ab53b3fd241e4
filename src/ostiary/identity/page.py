"""The pages for people: no script, no third party, readable without style; in the language the browser asks for."""

import re
import tomllib
from importlib import resources
from typing import Final

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse

POLICY: Final = "default-src 'none'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
HEADERS: Final = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
LANGUAGE: Final = re.compile(r"[a-z]{2}")
_FOLDER: Final = resources.files("ostiary.identity")
TEXTS: Final = tomllib.loads(_FOLDER.joinpath("page.toml").read_text("utf-8"))
_PAGE: Final = Environment(autoescape=True, trim_blocks=True).from_string(
    _FOLDER.joinpath("page.html").read_text("utf-8")
)


def page(request: Request, name: str, *, status: int = 200, **facts: object) -> HTMLResponse:
    """The page of this name; `problem` is the name of a text, or one of OAuth's own."""
    wanted = LANGUAGE.findall(request.headers.get("accept-language", "").lower()[:100])
    language = next((one for one in wanted if one in TEXTS), "en")
    return HTMLResponse(_PAGE.render(name=name, t=TEXTS[language], language=language, **facts), status, headers=HEADERS)
