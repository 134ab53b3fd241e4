"""Asking one of our own processes: an answer, or one kind of failure however it breaks off."""

import socket
from threading import Thread

import pytest

from ostiary.foundation import unix

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
