"""Every regular expression that reads what callers send: none may take longer than a few passes over the text."""

import importlib
import pkgutil
import re
import subprocess
import sys

READERS = ("erp", "event", "foundation", "guard", "identity", "plan")  # of ostiary
SAMPLES = [  # each expression takes one of these, which is then blown up at every place
    "model.a_b.c_d.e_f", "model/a_b.c_d/12/e_f", "report/a_b.c_d/12", "on_change_a", "a_b-c.d_e-f", "{a_b}", "api", "v1.a",
    "https://a.b/c_d/e-f/", "application/a+json ; charset=utf-8", "application/json ; charset=utf-8", "3.1.0", "a%20b",
    "/json/2/a_b.c_d/e_f", "a_b.c_d e_f", "/web/dataset/call_kw/a_b.c-d/e", "/xmlrpc/2/object", "text/xml ; charset=utf-8",
    "a_b.c desc nulls last", "-12.5", "%", "\x00", "1e+999", "-12.5e+3", "gr-" + "0a" * 16, "erp/a_b.c-d.*:execute.a_b", "#", "http://[::1]:80/a?b", "12",
    'Hash=0a;Cert="a"', "a" * 43, "0A" * 20 + ":12", "eyJhbGciOi.e_-.e_-", "gw-1-0a-12.1234567890123456789",
    'urn:a_b:c.d:id eq "a"', 'id eq "a" and members.value eq "b"', 'urn:a:b:members[value eq "a"].value',
]  # fmt: skip
PUMPS = [one + other for one in "a0_.-+/ ;%~\"'\\A:" for other in ("", *"a0_.-+/ ;%")]
LENGTH = 2_000
MOST_S = 120.0  # all of them take some seconds; one that tries every way to part a text takes years


def expressions():
    for package in (importlib.import_module(f"ostiary.{name}") for name in READERS):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for name, found in vars(importlib.import_module(module.name)).items():
                if isinstance(found, re.Pattern):
                    yield f"{module.name}.{name}", found


def taken_by(expression):
    samples = SAMPLES if isinstance(expression.pattern, str) else [one.encode() for one in SAMPLES]
    return [one for one in samples if expression.search(one)]


def pumped(sample):
    """The sample with every pump at every place, and an end that makes all of it vain."""
    text = sample if isinstance(sample, str) else sample.decode()
    for at in range(len(text) + 1):
        for pump in PUMPS:
            blown = text[:at] + pump * (LENGTH // len(pump)) + text[at:] + "\n!"
            yield blown if isinstance(sample, str) else blown.encode()


def exhaust():
    for name, expression in expressions():
        print(name, flush=True)
        for text in (text for sample in taken_by(expression) for text in pumped(sample)):
            expression.fullmatch(text)


def test_every_expression_that_reads_requests_has_a_sample_that_it_takes():
    assert [name for name, expression in expressions() if not taken_by(expression)] == []


def test_no_request_keeps_an_expression_busy():
    command = [sys.executable, __file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_S, check=False)  # told: the last name
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    exhaust()
