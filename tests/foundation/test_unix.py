"""Asking one of our own processes: an answer, or one kind of failure however it breaks off."""

import json
import socket
from threading import Thread

import pytest

from ostiary.foundation import errors, unix
from ostiary.foundation.errors import SystemFault

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


@pytest.fixture
def path(tmp_path_factory):
    """Short enough for a socket."""
    return tmp_path_factory.mktemp("s") / "s"


def answering(path, answer):
    """Somebody at the socket who says this to the first who asks, and goes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve():
        with listener, listener.accept()[0] as asking:
            asking.recv(65_536)
            asking.sendall(answer)

    Thread(target=serve, daemon=True).start()
    return path


def test_an_answer_is_its_status_and_its_body(path):
    assert unix.ask(answering(path, HEAD + b"hello"), "GET", "/") == (200, b"hello")


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", HEAD + b"he"])
def test_what_breaks_off_or_is_no_answer_is_a_failure_of_the_system(path, answer):
    with pytest.raises(OSError):
        unix.ask(answering(path, answer), "GET", "/")


def told(text):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)


def test_what_was_called_fails_here_as_it_failed_there(path):
    problem = SystemFault("store-fails", "disk or database fails", hint="see `ostiary status`")
    answer = told(json.dumps({"error": errors.told(problem)}).encode())
    with pytest.raises(SystemFault, match="disk or database fails") as raised:
        unix.call(answering(path, answer), "internal/revoked", {"keys": []})
    assert (raised.value.code, raised.value.hint) == (problem.code, problem.hint)


def test_an_answer_that_is_none_is_not_taken_for_a_process_that_is_away(path):
    """Whoever revokes would be told that it is done."""
    with pytest.raises(SystemFault, match="revoked got no answer: it broke off"):
        unix.call(answering(path, told(b"Internal Server Error")), "internal/revoked", {"keys": []})
