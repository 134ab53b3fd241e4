"""A secret gives its text to whoever asks for it by name, and to nobody else."""

import copy
import json
import logging
import pickle
import traceback

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ostiary.foundation.secret import REDACTED, JsonLines, PlainLines, Secret, redact

PLANTED = "planted-hunter2-xyzzy"
SECRET = Secret(PLANTED)


class Holder(msgspec.Struct):
    secret: Secret


@pytest.mark.parametrize(
    "show",
    [
        repr, str, format, ascii, "{}".format, "%s".__mod__, "%r".__mod__, lambda one: f"{one}{one!r}{one!s}{one!a}",
        lambda one: repr([one, {one: one}]), lambda one: repr(Holder(one)), lambda one: str(KeyError(one)),
        lambda one: repr(vars(type(one))) + repr(dir(one)), lambda one: "".join(traceback.format_exception(ValueError(one))),
    ],
)  # fmt: skip
def test_no_text_form_shows_it(show):
    assert PLANTED not in show(SECRET)


@pytest.mark.parametrize(
    "carry",
    [
        json.dumps, msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, copy.copy, copy.deepcopy, "{:>20}".format, bytes,
        *(lambda one, n=n: pickle.dumps(one, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)),
    ],
)  # fmt: skip
def test_nothing_carries_it_away(carry):
    with pytest.raises(Exception) as caught:
        carry(SECRET)
    assert PLANTED not in str(caught.value)


def failing(secret):
    inner = {"held": secret}
    raise ValueError(inner)


def test_no_traceback_shows_it_even_with_its_variables():
    try:
        failing(SECRET)
    except ValueError as problem:
        told = traceback.TracebackException.from_exception(problem, capture_locals=True)
    text = "".join(told.format())
    assert REDACTED in text
    assert PLANTED not in text


@given(st.text(), st.text())
def test_two_are_equal_when_their_texts_are(left, right):
    assert (Secret(left) == Secret(right)) == (left == right)
    assert Secret(left) != left
    if left == right:
        assert hash(Secret(left)) == hash(Secret(right))


def test_it_cannot_be_changed_into_something_that_shows_it():
    with pytest.raises(AttributeError):
        SECRET.name = "x"


TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=20, max_size=60)
SENTENCE = st.text("abcdefgh .,;:&=äß\U0001f511", min_size=8, max_size=40).filter(lambda text: text.strip())
AROUND = st.text("abc \n{}[]\"'=:&,", max_size=20)
BARE = [
    "authorization: Bearer {}", "Authorization: bearer {}", "DPoP {}", "authorization: Session {}", "password={}", "password: {}",
    "PASSWORD={}&x=1", "client_secret={}", "refresh_token={}&grant_type=x", "access_token: {}", '{{"token": "{}"}}', "{{'token': '{}'}}",
    '{{\\"api_key\\": \\"{}\\"}}', "x-api-key: {}", "Set-Cookie: a={}; Path=/", "__Host-ostiary-session={}; HttpOnly", "code_verifier={}",
    "GET /cb?code={}&state=x", "csrf={}", "postgresql+psycopg://me:{}@host/db", "https://me:{}@host/", "master.key = {}",
    "eyJhbGciOiJub25lIn0.{}.{}", "Failing token: {}", "client_assertion={}",
]  # fmt: skip
QUOTED = ['password="{}"', "password='{}'", '"password": "{}"', "'secret': '{}'", '{{\\"password\\": \\"{}\\"}}']


def line(*told, by=JsonLines, **more):
    record = logging.LogRecord("test", logging.INFO, "f.py", 1, *told, **more)
    return by().format(record)


@given(st.sampled_from(BARE), TOKEN, AROUND, AROUND)
def test_a_token_that_slips_into_a_log_line_is_taken_out(form, token, before, after):
    text = f"{before} {form.format(token, token)} {after}"
    assert token not in redact(text)
    assert token not in line("%s", (text,), None) + line("%s", (text,), None, by=PlainLines)


@given(st.sampled_from(QUOTED), SENTENCE)
def test_a_quoted_sentence_is_taken_out_to_its_end(form, sentence):
    assert sentence not in redact(f"it said {form.format(sentence)}, and went on")


@given(st.sampled_from(BARE), TOKEN)
def test_it_is_taken_out_of_tracebacks_too(form, token):
    def fail():
        raise ValueError(form.format(token, token))

    try:
        fail()
    except ValueError as problem:
        broke = (ValueError, problem, problem.__traceback__)
        told = [line("failed", None, broke, by=form) for form in (JsonLines, PlainLines)]
    assert [one for one in told if token in one or "ValueError" not in one] == []


def test_a_private_key_is_taken_out_whole_or_cut_off():
    for end in ("", "\n-----END EC PRIVATE KEY-----\nafter"):
        told = redact(f"before\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIabc\nabcdef{end}")
        assert "MHc" not in told
        assert "abcdef" not in told
        assert told.startswith("before")
    assert "x" * 43 not in redact(json.dumps({"kty": "EC", "d": "x" * 43}))


@given(st.text(max_size=300))
def test_any_line_is_one_line_of_json(text):
    assume("%" not in text)
    told = line(text, None, None)
    assert "\n" not in told
    assert json.loads(told)["from"] == "test"


def test_a_long_line_that_means_harm_is_read_in_a_moment():
    for text in (
        "key" * 100_000,
        "://" + "a:" * 100_000,
        "password" + " " * 200_000,
        '"' * 200_000,
        "-----BEGIN PRIVATE KEY-----" * 5_000,
    ):
        assert len(redact(text)) <= len(text)


def test_a_plain_message_stays_as_it_is():
    for text in (
        "the gate closes",
        "store-unavailable [no-signing-key]",
        "keys/master.key does not hold 32 bytes",
        "port 8443 is taken",
    ):
        assert redact(text) == text


def test_a_long_message_is_cut_and_a_long_traceback_keeps_its_end():
    assert len(json.loads(line("x" * 10_000, None, None))["message"]) == 4_000
    problem = ValueError("y" * 10_000 + "end")
    told = json.loads(line("x", None, (ValueError, problem, None)))["traceback"]
    assert told.endswith("end")
    assert len(told) == 4_000
