"""A real Chromium, driven over its own protocol: Debian's, installed where it is missing and we are root there."""

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium-headless-shell", "chromium")
PACKAGE = NAMES[0]
INSTALL_TIMEOUT_S = 600
PATIENCE_MS = 20_000
DEVICE = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True,
}  # fmt: skip


def _program() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def installed() -> str:
    """The program, once for all workers; skips where it can't be had."""
    with (Path(tempfile.gettempdir()) / f"ost-chromium-{os.getuid()}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (found := _program()) and os.geteuid() == 0 and shutil.which("apt-get"):
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", PACKAGE]):
                told = {"env": quiet, "timeout": INSTALL_TIMEOUT_S, "capture_output": True}
                subprocess.run(["apt-get", *command], check=False, **told)
            found = _program()
    if not found:
        pytest.skip(f"there is no Chromium: apt-get install {PACKAGE}")
    return found


@contextmanager
def running(certificate: Path) -> Iterator[Browser]:
    """A browser that takes this certificate's key as good, and no other that its system does not."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    pin = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    trusted = f"--ignore-certificate-errors-spki-list={base64.b64encode(pin).decode()}"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=installed(), args=["--no-sandbox", trusted])
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """One page of a fresh profile, with what the browser complained about."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type != "log" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._protocol = self.context.new_cdp_session(self.page)

    def add_device(self, **changed: Any) -> str:
        """A virtual authenticator; its id."""
        self._protocol.send("WebAuthn.enable")
        added = self._protocol.send("WebAuthn.addVirtualAuthenticator", {"options": {**DEVICE, **changed}})
        return str(added["authenticatorId"])

    def device(self, command: str, authenticator: str, **more: Any) -> dict[str, Any]:
        return self._protocol.send(f"WebAuthn.{command}", {"authenticatorId": authenticator, **more})
