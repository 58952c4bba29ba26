"""Fetching: from a server here, whole and interrupted, with known and unknown hashes; without a network."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.sources.fetching import RECORD, PublicSet, RemoteFile, fetch, public_set, public_sets
from shelftalk.data.sources.layouts import LAYOUTS
from shelftalk.errors import DownloadFailed, UnknownPart, UnreadableFile
from tests.data.test_published import ML_1M, U_DATA, U_ITEM
from tests.end_to_end.tiny import call


class Server(ThreadingHTTPServer):
    """Serves `files` by path. Of a path in `breaks` the connection ends after so many bytes, once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks: dict[str, int] = {}
        self.ranges: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        """Nothing on the screen."""

    def do_GET(self) -> None:
        content = self.server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        asked = self.headers.get("Range")
        start = 0
        if asked and self.headers.get("If-Range") == tag:
            self.server.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = self.server.breaks.pop(self.path[1:], len(content))
        self.wfile.write(content[start:stop])


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


def zipped(files: dict[str, str | bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


ML = zipped({"ml-1m/": "", **{f"ml-1m/{name}": text for name, text in ML_1M.items()}, "ml-1m/users.dat": "x"})
FILE = RemoteFile("ml-1m.zip", (), members=("ratings.dat", "movies.dat"))


def wanted(*files: RemoteFile) -> PublicSet:
    return PublicSet("ml-1m", "MovieLens", "movielens-1m", "https://a.page", "terms", files)


def test_an_archive_is_downloaded_verified_unpacked_and_readable(tmp_path: Path, server: Server) -> None:
    server.files["ml-1m.zip"] = ML
    file = replace(FILE, urls=(server.url("ml-1m.zip"),), sha256=sha256(ML))
    (done,) = fetch(wanted(file), tmp_path)
    assert (done.sha256, done.known, done.size) == (sha256(ML), True, len(ML))
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "movies.dat", "ratings.dat"]
    assert len(read_dataset(DataSettings(folder=str(tmp_path)), seed=0)[0].events) == 3
    server.files.clear()
    (again,) = fetch(wanted(file), tmp_path)
    assert again.how == "was there, unpacked" and again.sha256 == done.sha256


def test_a_hash_that_is_not_known_is_recorded_and_must_hold_from_then_on(
    tmp_path: Path, server: Server
) -> None:
    server.files["u.data"] = U_DATA.encode()
    file = RemoteFile("u.data", (server.url("u.data"),))
    (done,) = fetch(wanted(file), tmp_path)
    assert not done.known
    record = tomllib.loads((tmp_path / RECORD).read_text())["files"]["u.data"]
    assert record["sha256"] == sha256(U_DATA.encode()) and record["hash_was_known"] is False
    (tmp_path / "u.data").write_text("another")
    with pytest.raises(UnreadableFile, match="its SHA-256 of the first download is .* remove it"):
        fetch(wanted(file), tmp_path)
    (tmp_path / "u.data").unlink()
    assert fetch(wanted(file), tmp_path)[0].sha256 == record["sha256"]


def test_an_interrupted_download_continues_where_it_stopped(tmp_path: Path, server: Server) -> None:
    content = bytes(range(256)) * 9000
    server.files["a.bin"], server.breaks["a.bin"] = content, 1_500_000
    file = RemoteFile("a.bin", (server.url("a.bin"),), sha256=sha256(content))
    with pytest.raises(DownloadFailed, match="a.bin of ml-1m cannot be downloaded"):
        fetch(wanted(file), tmp_path)
    assert not (tmp_path / "a.bin").exists()
    assert fetch(wanted(file), tmp_path)[0].size == len(content)
    assert len(server.ranges) == 1 and 0 < int(server.ranges[0][6:-1]) <= 1_500_000
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_changed_meanwhile_is_begun_anew(tmp_path: Path, server: Server) -> None:
    first, second = b"a" * 3_000_000, b"b" * 2_000_000
    server.files["a.bin"], server.breaks["a.bin"] = first, 2_500_000
    file = RemoteFile("a.bin", (server.url("a.bin"),))
    with pytest.raises(DownloadFailed):
        fetch(wanted(file), tmp_path)
    server.files["a.bin"] = second
    fetch(wanted(file), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == second and server.ranges == []


def test_a_mirror_is_asked_where_another_fails_or_answers_with_a_page(tmp_path: Path, server: Server) -> None:
    server.files |= {"page.zip": b"<html>moved</html>", "ml-1m.zip": ML}
    urls = tuple(server.url(path) for path in ("gone.zip", "page.zip", "ml-1m.zip"))
    (done,) = fetch(wanted(replace(FILE, urls=urls)), tmp_path)
    assert done.how == f"from {urls[2]}"
    with pytest.raises(DownloadFailed, match="404 Not Found.*the answer is no .zip file"):
        fetch(wanted(replace(FILE, urls=urls[:2])), tmp_path / "other")


def test_without_a_network_the_message_says_which_file_to_put_where_and_that_helps(tmp_path: Path) -> None:
    file = replace(FILE, urls=("http://127.0.0.1:9/ml-1m.zip",), sha256=sha256(ML))
    with pytest.raises(DownloadFailed) as caught:
        fetch(wanted(file), tmp_path)
    target = tmp_path / "ml-1m.zip"
    assert f'http://127.0.0.1:9/ml-1m.zip by other means, put it at "{target}" and run' in str(caught.value)
    target.write_bytes(ML)
    assert fetch(wanted(file), tmp_path)[0].how == "was there"
    assert (tmp_path / "ratings.dat").exists()


def test_another_file_than_the_published_one_is_refused(tmp_path: Path, server: Server) -> None:
    server.files["ml-1m.zip"] = ML[:-1] + b"x"
    file = replace(FILE, urls=(server.url("ml-1m.zip"),), sha256=sha256(ML))
    with pytest.raises(UnreadableFile, match="is not the expected file: its SHA-256 is"):
        fetch(wanted(file), tmp_path)
    with pytest.raises(UnreadableFile, match="is not the expected file: its MD5 is"):
        fetch(wanted(replace(file, sha256="", md5="0" * 32)), tmp_path)


def test_a_tar_archive_and_one_that_is_damaged(tmp_path: Path, server: Server) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in (("x/u.data", U_DATA.encode()), ("../../u.item", U_ITEM)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    server.files["a.tar.gz"] = target.getvalue()
    file = RemoteFile("a.tar.gz", (server.url("a.tar.gz"),), members=("u.data", "u.item"))
    fetch(wanted(file), tmp_path / "x" / "y")
    assert (tmp_path / "x/y/u.item").read_bytes() == U_ITEM  # and not where its name points
    server.files["a.tar.gz"] = target.getvalue()[:200]
    with pytest.raises(UnreadableFile, match="is damaged"):
        fetch(wanted(file), tmp_path / "z")
    server.files["ml-1m.zip"] = zipped({"a": "b"})
    with pytest.raises(UnreadableFile, match="holds none of ratings.dat"):
        fetch(wanted(replace(FILE, urls=(server.url("ml-1m.zip"),))), tmp_path / "w")


def test_the_catalogue_is_whole() -> None:
    for one in public_sets():
        assert one.layout in LAYOUTS and one.terms and one.page.startswith("http") and one.files
        for file in one.files:
            assert "{" not in file.name + "".join(file.urls)
            assert len(file.sha256) in (0, 64) and len(file.md5) in (0, 32)
    assert public_set("amazon-2014:Toys_and_Games").files[1].name == "meta_Toys_and_Games.json.gz"
    for name, fault in (
        ("ml-1n", 'there is no public data set "ml-1n"; did you mean "ml-'),
        ("ml-1m:x", "has no parts"),
        ("amazon-2014:../x", '"../x" is no part of amazon-2014; name one such as "amazon-2014:Beauty"'),
    ):
        with pytest.raises(UnknownPart, match=fault):
            public_set(name)


def test_the_command_lists_and_says_what_to_do_by_hand(tmp_path: Path) -> None:
    assert "ml-1m" in call("fetch").stdout and "amazon-2023:All_Beauty" in call("fetch").stdout
    done = call("fetch", "yelp", "--to", tmp_path / "yelp")
    assert done.exit_code == 2
    assert "has no address that needs no consent; download yelp_academic_dataset_review.json from" in (
        done.stderr
    )
