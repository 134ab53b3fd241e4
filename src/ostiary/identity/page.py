"""The sign-in page: no script, no third party, readable without style; shows who asks and for what."""

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
_PAGE: Final = Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title></head>
<body><main><h1>{{ title }}</h1>
{% if problem %}<p role="alert">{{ problem }}</p>{% endif %}
{% if client %}<p><strong>{{ client }}</strong> asks to act for you. It may:</p>
<ul>{% for system in everything %}<li>all that your roles allow in {{ system }}</li>{% endfor %}
{% for scope in scopes %}<li><code>{{ scope }}</code></li>{% endfor %}</ul>
<form method="post" action="{{ action }}">
<input type="hidden" name="request" value="{{ request }}">
<input type="hidden" name="csrf" value="{{ csrf }}">
{% if person %}<p>You are signed in as {{ person }}.</p>{% else %}
<p><label for="username">User name</label><br>
<input id="username" name="username" autocomplete="username" required maxlength="100"></p>
<p><label for="password">Password</label><br>
<input id="password" name="password" type="password" autocomplete="current-password" required maxlength="256"></p>
{% endif %}
<p><button name="decision" value="allow">Allow</button>
<button name="decision" value="deny" formnovalidate>Deny</button></p>
</form>{% endif %}</main></body></html>
""")


def page(title: str, *, status: int = 200, **facts: object) -> HTMLResponse:
    return HTMLResponse(_PAGE.render(title=title, **facts), status, headers=HEADERS)
