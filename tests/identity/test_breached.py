"""Stolen passwords are found in a list of any size, and what is no such list is told, not trusted."""

import hashlib
import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.identity import passwords
from ostiary.identity.passwords import hash_password

STOLEN = "seven green lanterns"


def listed(path, words, *, end="\n", lower=False):
    hashes = sorted(hashlib.sha1(word.encode()).hexdigest() for word in words)
    shown = hashes if lower else [one.upper() for one in hashes]
    path.write_bytes("".join(f"{one}:{7 ** (n % 9)}{end}" for n, one in enumerate(shown)).encode())
    return path


def known(path, word):
    return passwords.stolen(path, Secret(word))


@settings(deadline=None)
@given(words=st.sets(st.text(max_size=5), min_size=1, max_size=40), other=st.text(max_size=5))
def test_what_is_listed_is_found_and_nothing_else(words, other, tmp_path_factory):
    for end, lower in (("\n", False), ("\r\n", True)):
        path = listed(tmp_path_factory.getbasetemp() / "list", words, end=end, lower=lower)
        assert all(known(path, word) for word in words)
        assert known(path, other) is (other in words)


def test_the_last_line_may_lack_its_end(tmp_path):
    path = listed(tmp_path / "list", ["a", "b", "c"])
    path.write_bytes(path.read_bytes().rstrip())
    assert all(known(path, word) for word in "abc")


def test_of_a_list_of_tens_of_gigabytes_some_lines_are_read(monkeypatch):
    """In place of the list, a file that makes each line as it is read: 1.2 billion of them, 57 GB."""
    count, width, reads = 1_200_000_000, 48, []

    class Endless:
        """Line n holds the n-th of evenly spread hashes."""

        at = 0

        def open(self, _):
            return nullcontext(self)

        def seek(self, to, whence=os.SEEK_SET):
            self.at = to if whence == os.SEEK_SET else count * width
            return self.at

        def tell(self):
            return self.at

        def readline(self, _):
            number, offset = divmod(self.at, width)
            line = b"%040X:%06d\n" % (number * (16**40 // count), number % 1_000_000)
            self.at += width - offset
            reads.append(number)
            return line[offset:]

    def looked_up(digest):
        monkeypatch.setattr(hashlib, "sha1", lambda *_, **__: SimpleNamespace(hexdigest=digest.decode))
        return known(Endless(), "")

    there = b"%040X" % (987_654_321 * (16**40 // count))
    assert looked_up(there)
    assert not looked_up(there[:-1] + b"F")
    assert len(reads) < 4 * 40
    passwords.refuse_unfit_list(Endless())
    assert len(reads) < 3_000


def test_a_stolen_password_is_refused_and_any_other_taken(tmp_path):
    path = listed(tmp_path / "list", [STOLEN, *map(str, range(1000))])
    with pytest.raises(CallerFault, match="stolen elsewhere") as refused:
        hash_password(Secret(STOLEN), login="anna", breached=path)
    assert (refused.value.code, STOLEN in str(refused.value)) == ("password-breached", False)
    for path_or_none, word in ((path, STOLEN + "s"), (None, STOLEN)):
        assert hash_password(Secret(word), login="anna", breached=path_or_none).startswith("$argon2id$")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no such file"),
        ("", "empty"),
        ("password\n123456\n", "no line of SHA1:count"),
        ("8846F7EAEE8FB117AD06BDD830B7586C:3\n" * 9, "no line of SHA1:count"),  # the same site's NTLM hashes
        ("".join(f"{hashlib.sha1(b'%d' % n).hexdigest()}:1\n" for n in range(99)), "order"),  # that list by frequency
        ("x" * 5000, "no line of SHA1:count"),
    ],
)
def test_what_is_no_such_list_is_told_with_what_to_do(tmp_path, text, why):
    path = tmp_path / "list"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OperatorFault, match=why) as refused:
        passwords.refuse_unfit_list(path)
    assert (refused.value.code, str(path) in str(refused.value)) == ("breached-unfit", True)
