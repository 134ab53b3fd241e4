"""The sign-in page: no script, no third party, readable without style; shows who asks and for what."""

from importlib import resources
from typing import Final

from jinja2 import Environment
from starlette.responses import HTMLResponse

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_TEXT: Final = resources.files("ostiary.identity").joinpath("page.html").read_text("utf-8")
_PAGE: Final = Environment(autoescape=True).from_string(_TEXT)


def page(title: str, *, status: int = 200, **facts: object) -> HTMLResponse:
    return HTMLResponse(_PAGE.render(title=title, **facts), status, headers=HEADERS)
