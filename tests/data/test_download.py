"""Downloads from a real server on this machine that misbehaves in every way a server can."""

import hashlib
import socket
import struct
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import pytest

from benchmarks.train_classifier import LABELS
from tinygan.data import download
from tinygan.data.download import PAUSES, Pinned, fetch, opened_in_time
from tinygan.data.sources import PINNED, located
from tinygan.errors import DataError

BODY = bytes(range(256)) * 40
AWAKE = threading.Event()  # set when the server stops, so that no handler sleeps on


class Handler(BaseHTTPRequestHandler):
    """The folder in the URL says how to misbehave."""

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        if how == "missing":
            self.send_error(404)
            return
        wrong = {"wrong": BODY[::-1], "html": b"<html>Please log in</html>", "long": BODY + b"x"}
        body = wrong.get(how, BODY)
        lengths = {"says-less": "100", "says-more": "99999", "says-nonsense": "many"}
        self.send_response(200)
        self.send_header("Content-Length", lengths.get(how, str(len(body))))
        self.end_headers()
        if how.startswith("cut"):
            body = body[: len(BODY) * int(how[3:]) // 100]
        if how in ("stall", "reset", "trickle"):
            body = body[: len(BODY) // 2]
        self.wfile.write(body)
        if how == "stall":
            AWAKE.wait(20)
        if how == "reset":  # closing with linger 0 sends a reset instead of an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        while how == "trickle" and not AWAKE.wait(0.05):
            self.wfile.write(b"x")

    def finish(self) -> None:
        with suppress(OSError):  # the client is gone, or the connection was closed above
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/"
    AWAKE.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_proxy_and_no_pauses(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSES", (0, 0))


def pinned(server: str, *folders: str) -> Pinned:
    mirrors = [f"{server}{folder}/" for folder in folders]
    return Pinned("file", mirrors, len(BODY), hashlib.sha256(BODY).hexdigest())


def refused(folder, file: Pinned) -> str:
    with pytest.raises(DataError) as error:
        fetch(file, folder, lambda line: None)
    assert list(folder.iterdir()) == []  # neither the file nor a part of it
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_good_file_is_kept_and_not_downloaded_again(tmp_path, server, monkeypatch):
    lines = []
    path = fetch(pinned(server, "good"), tmp_path, lines.append)
    assert path.read_bytes() == BODY and path == tmp_path / "file"
    assert "0.0 of 0.0 MB" in lines[-1]
    monkeypatch.setattr(download, "urlopen", None)
    assert fetch(pinned(server, "good"), tmp_path, lines.append) == path


def test_a_download_that_is_cut_leaves_nothing(tmp_path, server):
    for percent in range(100):
        why = refused(tmp_path, pinned(server, f"cut{percent}"))
        assert f"sent {len(BODY) * percent // 100:,} bytes" in why


def test_an_answer_that_trickles_in_ends_at_the_time_limit(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "TOTAL_SECONDS", 0.4)
    start = time.monotonic()
    assert "too slow" in refused(tmp_path, pinned(server, "trickle"))
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    ("how", "word", "times"),  # only a download that breaks off is retried
    [
        ("wrong", "SHA-256", 1),
        ("long", "more", 1),
        ("missing", "Not Found", 1),
        ("html", "26 bytes", 3),
        ("says-less", "100 bytes", 3),
        ("reset", "reset", 3),
    ],
)
def test_a_wrong_answer_leaves_nothing(tmp_path, server, monkeypatch, how, word, times):
    asked = []

    def counted(address: str, timeout: float):
        asked.append(address)
        return urlopen(address, timeout=timeout)

    monkeypatch.setattr(download, "urlopen", counted)
    assert word in refused(tmp_path, pinned(server, how))
    assert len(asked) == times


@pytest.mark.parametrize("how", ["says-more", "says-nonsense"])
def test_a_wrong_length_does_not_matter_if_the_bytes_are_right(tmp_path, server, how):
    assert fetch(pinned(server, how), tmp_path, lambda line: None).read_bytes() == BODY


def test_a_server_that_stalls_is_abandoned(server, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)
    with opened_in_time(server + "stall/file") as answer, pytest.raises(TimeoutError):
        answer.read()


def test_every_address_is_https_and_every_file_pinned():
    files = [*PINNED.values(), *LABELS.values()]
    assert len(files) == 6
    for file in files:
        assert len(file.mirrors) == 2 and all(mirror.startswith("https://") for mirror in file.mirrors)
        assert file.size > 1000 and len(bytes.fromhex(file.sha256)) == 32


def test_the_next_mirror_is_tried(tmp_path, server):
    file = pinned(server, "wrong", "cut50", "missing", "good")
    assert fetch(file, tmp_path, lambda line: None).read_bytes() == BODY


def test_a_damaged_cache_is_noticed_and_replaced(tmp_path, server):
    (tmp_path / "file").write_bytes(BODY[:-1] + b"?")
    lines = []
    assert fetch(pinned(server, "good"), tmp_path, lines.append).read_bytes() == BODY
    assert "damaged" in lines[0]


def test_a_server_that_does_not_exist_is_abandoned_at_once(tmp_path):
    start = time.monotonic()
    refused(tmp_path, pinned("http://127.0.0.1:9/", "a", "b"))
    assert time.monotonic() - start < 5


def test_a_cache_that_cannot_be_written_is_refused(tmp_path, server):
    (tmp_path / "in the way").write_text("")
    with pytest.raises(DataError, match="TINYGAN_CACHE"):
        fetch(pinned(server, "good"), tmp_path / "in the way" / "cache", lambda line: None)


def test_a_download_that_cannot_be_kept_is_refused(tmp_path, server, monkeypatch):
    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setenv("TINYGAN_CACHE", str(tmp_path))
    (tmp_path / "set" / "file" / "in the way").mkdir(parents=True)
    with pytest.raises(DataError, match="not a regular file.*[.] Download http"):
        located("set", pinned(server, "good"), None, lambda line: None)


def test_a_server_that_never_answers_is_abandoned_in_time(tmp_path, monkeypatch):
    assert 2 * download.CONNECT_SECONDS < 10  # for two mirrors
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.1)
    never, start = threading.Event(), time.monotonic()
    file = pinned("https://silent/", "a", "b")
    monkeypatch.setattr(download, "urlopen", lambda address, timeout: never.wait(60))
    assert "no answer in 0.1 seconds" in refused(tmp_path, file)
    never.set()
    assert time.monotonic() - start < 3


def test_a_download_that_breaks_off_is_retried(tmp_path, server, monkeypatch):
    waited, lines, answers = [], [], ["cut50", "cut99", "good"]
    monkeypatch.setattr(download, "PAUSES", PAUSES)
    monkeypatch.setattr(download.time, "sleep", waited.append)
    file = pinned(server, "x")

    def one_after_the_other(address: str, timeout: float):
        return urlopen(address.replace("/x/", f"/{answers.pop(0)}/"), timeout=timeout)

    monkeypatch.setattr(download, "urlopen", one_after_the_other)
    assert fetch(file, tmp_path, lines.append).read_bytes() == BODY
    assert waited == [1, 5] and not answers
    assert sum("trying again" in line for line in lines) == 2
