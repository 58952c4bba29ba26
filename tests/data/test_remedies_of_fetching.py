"""What cannot be fetched: the sentence is read, the file put or removed so, and the same command ends."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from shelftalk.data.sources import DataSettings, read_dataset
from shelftalk.data.sources.fetching import RECORD, RemoteFile, fetch, public_set
from shelftalk.errors import DownloadFailed, ShelftalkError, UnknownPart, UnreadableFile
from tests.data.test_fetching import FILE, ML, Server, server, sha256, wanted, zipped

__all__ = ["server"]  # the fixture


def told(kind: type[ShelftalkError], file: RemoteFile, folder: Path) -> str:
    with pytest.raises(kind) as error:
        fetch(wanted(file), folder)
    return str(error.value)


def removed(message: str) -> Path:
    """The file that the sentence names, which is removed as it says."""
    assert "remove it" in message, message
    path = Path(re.findall(r'^"(.+?)"', message)[0])
    path.unlink()
    return path


@pytest.mark.parametrize(
    "content",
    [ML[:-1] + b"x", ML[:200], zipped({"a": "b"}), b"PK, and no archive"],
    ids=["another hash", "cut short", "without the members", "no archive"],
)
def test_a_wrong_file_is_removed_and_fetched_again_by_the_same_command(
    content: bytes, tmp_path: Path, server: Server
) -> None:
    server.files["ml-1m.zip"] = content
    file = replace(FILE, urls=(server.url("ml-1m.zip"),))
    known = replace(file, sha256=sha256(ML)) if content == ML[:-1] + b"x" else file
    message = told(UnreadableFile, known, tmp_path / "my data")
    assert "run the same command again" in message
    server.files["ml-1m.zip"] = ML
    assert removed(message) == tmp_path / "my data" / "ml-1m.zip"
    fetch(wanted(known), tmp_path / "my data")
    assert len(read_dataset(DataSettings(folder=str(tmp_path / "my data")), seed=0)[0].events) == 3


def test_a_file_that_its_publisher_changed_is_read_by_data_as_it_is(tmp_path: Path, server: Server) -> None:
    data = "user_id,item_id,timestamp\nu,a,1\n"
    server.files |= {"interactions.csv": data.encode(), "items.csv": b"item_id\na\n"}
    first, items = (RemoteFile(name, (server.url(name),)) for name in server.files)
    fetch(wanted(first, items), tmp_path)
    (tmp_path / "interactions.csv").write_text(data + "v,a,2\n")
    assert "if its publisher has changed it, read it by --data as it is" in told(
        UnreadableFile, first, tmp_path
    )
    assert len(read_dataset(DataSettings(folder=str(tmp_path)), seed=0)[0].events) == 2


def test_a_record_that_cannot_be_read_is_removed_and_written_anew(tmp_path: Path, server: Server) -> None:
    server.files["ml-1m.zip"] = ML
    file = replace(FILE, urls=(server.url("ml-1m.zip"),), sha256=sha256(ML))
    fetch(wanted(file), tmp_path)
    whole = (tmp_path / RECORD).read_text()
    for damage in ("files = [", "files = 3", "[files]\n'ml-1m.zip' = 3"):
        (tmp_path / RECORD).write_text(damage)
        assert removed(told(UnreadableFile, file, tmp_path)) == tmp_path / RECORD
        fetch(wanted(file), tmp_path)
        assert sha256(ML) in (tmp_path / RECORD).read_text() and len(whole) > 100


def test_a_file_without_an_address_or_a_network_is_put_where_it_is_told(tmp_path: Path) -> None:
    for file in (FILE, replace(FILE, urls=("http://127.0.0.1:9/ml-1m.zip",))):
        folder = tmp_path / f"with {len(file.urls)}"
        message = told(DownloadFailed, file, folder)
        source = re.findall(r"download (?:\S+ from )?(http\S+) by other means", message)[0]
        assert source in (*file.urls, "https://a.page")
        Path(re.findall(r'put it at "(.+?)"', message)[0]).write_bytes(ML)
        assert fetch(wanted(file), folder)[0].how == "was there"


def test_an_interrupted_download_goes_on_with_the_same_command(tmp_path: Path, server: Server) -> None:
    content = bytes(range(256)) * 9000
    server.files["a.bin"], server.breaks["a.bin"] = content, 1_500_000
    file = RemoteFile("a.bin", (server.url("a.bin"),), sha256=sha256(content))
    assert "run the same command again" in told(DownloadFailed, file, tmp_path)
    assert fetch(wanted(file), tmp_path)[0].sha256 == sha256(content) and len(server.ranges) == 1


def test_public_sets_and_parts_are_found_by_the_names_that_are_told() -> None:
    for wrong, words in (
        ("ml-1n", r'did you mean "(.+?)"'),
        ("amazon-2014:../x", r'name one such as "(.+?)"'),
    ):
        with pytest.raises(UnknownPart) as error:
            public_set(wrong)
        assert public_set(re.findall(words, str(error.value))[0]).files
    with pytest.raises(UnknownPart) as error:
        public_set("ml-1m:x")
    left_out = re.findall(r'leave "(.+?)" out', str(error.value))[0]
    assert public_set("ml-1m:x".replace(left_out, "")).name == "ml-1m"
