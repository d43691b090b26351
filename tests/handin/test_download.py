"""Downloading a list of links: over https only, resumed, checked, and complete or not there."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from src.core.errors import InputError
from src.core.reading import PARTIAL, InputFiles
from src.handin import fetch
from src.handin.downloads import download_links
from src.handin.links import parse_size, read_links, secure
from tests.fixtures import Finished, Podium
from tests.handin.https_server import (
    Handler,
    Server,
    busy,
    cuts,
    expired,
    ignores_range,
    make_certificate,
    needs_openssl,
    serving,
)

DATA = np.random.default_rng(0).integers(0, 256, 1_500_000, np.uint8).tobytes()
Download = Callable[..., Finished]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
def server(tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve two files; their certificate is trusted as any other is: by SSL_CERT_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    monkeypatch.setattr(fetch, "FIRST_WAIT", 0.0)
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "train.zip").write_bytes(DATA)
    (tmp_path / "remote" / "train.json").write_bytes(b"{}")
    with serving(tmp_path / "remote", certificate) as found:
        yield found


@pytest.fixture
def download(tmp_path: Path, podium: Podium, server: Server) -> Download:
    """Return a function that downloads a list of rows (default: both files) into input/svhn."""

    def run(*flags: object, rows: tuple[str, ...] = ("train.zip,1.43MB", "train.json,2B"), query: str = "") -> Finished:
        lines = ["file,size,link", *(f"{row},{server.url}/{row.split(',')[0]}{query}" for row in rows)]
        (tmp_path / "list.csv").write_bytes("\r\n".join([*lines, ""]).encode())
        return podium("download", "--links", "list.csv", *flags)

    return run


def refused(ended: Finished, *words: str) -> None:
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    for word in words:
        assert word in ended.err


def got(tmp_path: Path) -> bytes:
    """Return the file that arrived, and check that nothing half written is beside it."""
    assert not (tmp_path / "input" / "svhn" / PARTIAL).exists()
    return (tmp_path / "input" / "svhn" / "train.zip").read_bytes()


@needs_openssl
def test_files_arrive_whole_and_a_second_run_asks_for_nothing(
    tmp_path: Path, download: Download, server: Server
) -> None:
    ended = download()
    assert ended.code == 0, ended.err
    assert "2 of them downloaded now" in ended.out
    assert "next: python -m src.prepare --competition svhn\n" in ended.out
    assert got(tmp_path) == DATA
    count = len(server.asked)
    assert "0 of them downloaded now" in download().out
    assert len(server.asked) == count
    assert "--competition svhn --input-dir 'my input'\n" in download("--input-dir", "my input").out


@needs_openssl
def test_a_cut_download_is_resumed_where_it_stopped_in_the_same_run_and_in_the_next(
    tmp_path: Path, download: Download, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = len(DATA) // 2
    server.will("train.zip", busy, cuts)
    assert download().code == 0
    assert got(tmp_path) == DATA
    zips = [ask for ask in server.asked if ask[0] == "train.zip"]
    assert [ask[1] for ask in zips] == ["", "", f"bytes={half}-"]
    assert zips[-1][2] == f'"{len(DATA)}-{DATA[:1].hex()}"'  # If-Range: only if it is still that very file
    (tmp_path / "input" / "svhn" / "train.zip").unlink()
    monkeypatch.setattr(fetch, "MAX_FAILURES", 1)
    server.will("train.zip", cuts, busy)
    refused(download(), "train.zip", "503", "what has arrived is kept")
    assert (tmp_path / "input" / "svhn" / PARTIAL / "train.zip").stat().st_size == half
    assert len(InputFiles(tmp_path / "input" / "svhn").found) == 1  # prepare does not see the part
    assert download().code == 0
    assert server.asked[-1][1] == f"bytes={half}-"
    assert got(tmp_path) == DATA


def changes(handler: Handler, data: bytes) -> None:
    """Replace the file on the server: its ETag is another one, so a part of the old one is no good."""
    new = b"new" + data[3:]
    (handler.server.folder / "train.zip").write_bytes(new)
    handler.whole_or_part(new)


@needs_openssl
@pytest.mark.parametrize("then", [ignores_range, changes])
def test_a_server_that_ignores_ranges_or_has_another_file_now_starts_anew(
    tmp_path: Path, download: Download, server: Server, then: Callable[[Handler, bytes], None]
) -> None:
    server.will("train.zip", cuts, then)
    assert download().code == 0
    assert got(tmp_path) == (tmp_path / "remote" / "train.zip").read_bytes()
    assert len(got(tmp_path)) == len(DATA)


@needs_openssl
def test_a_damaged_file_is_downloaded_again(tmp_path: Path, download: Download, server: Server) -> None:
    def damages(handler: Handler, data: bytes) -> None:
        import base64

        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        handler.send(200, bytes([data[0] ^ 1]) + data[1:], {"Content-MD5": md5})

    server.will("train.zip", damages)
    assert download().code == 0
    assert got(tmp_path) == DATA


def login(handler: Handler, data: bytes) -> None:
    handler.send(200, b"<html>sign in</html>", {"Content-Type": "text/html; charset=utf-8"})


def to_http(handler: Handler, data: bytes) -> None:
    handler.send(302, b"", {"Location": "http://127.0.0.1/train.zip"})


@needs_openssl
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            expired,
            ("list.csv, line 2: train.zip: the link has expired (403 AccessDenied: Request has expired.)", "new list"),
        ),
        (login, ("train.zip", "a web page", "login")),
        (to_http, ("redirects to http://", "not https")),
        (lambda handler, data: handler.send(200, b"abc"), ("has 3 bytes, the list says 1.43MB",)),
        (lambda handler, data: handler.send(404, b""), ("leads to no file any more (404)",)),
    ],
    ids=["expired", "login", "to_http", "size", "404"],
)
def test_a_link_that_cannot_be_used_is_one_line_and_the_other_files_arrive(
    tmp_path: Path, download: Download, server: Server, answer: Callable[[Handler, bytes], None], words: tuple[str, ...]
) -> None:
    server.will("train.zip", *[answer] * 3)
    refused(download(), *words)
    assert (tmp_path / "input" / "svhn" / "train.json").read_bytes() == b"{}"
    assert not (tmp_path / "input" / "svhn" / "train.zip").exists()


@needs_openssl
def test_a_certificate_that_nobody_vouches_for_is_refused(
    download: Download, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    refused(download(), "certificate is not valid")
    assert not server.asked


@needs_openssl
def test_a_file_of_the_user_is_not_overwritten_unless_asked(tmp_path: Path, download: Download) -> None:
    own = tmp_path / "input" / "svhn" / "train.zip"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    refused(download(), "input/svhn/train.zip: has 4 bytes", "--replace")
    assert own.read_bytes() == b"mine"
    assert download("--replace").code == 0
    assert own.read_bytes() == DATA


@needs_openssl
def test_a_full_disk_is_told_before_anything_is_asked_for(
    download: Download, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    refused(download(), "input/svhn: the files take", "make room")
    assert not server.asked


@needs_openssl
@pytest.mark.parametrize("size", ["", "1.43MB"])
def test_what_is_left_is_told_only_if_the_list_gives_every_size(
    download: Download, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setattr("src.core.progress.SECONDS_BETWEEN_LINES", 0.0)
    ended = download("--connections", 1, rows=(f"train.zip,{size}", "train.json,2B"))
    assert ended.code == 0, ended.err
    assert ("downloading into input/svhn: 1 MB\n" in ended.out) == (not size), ended.out
    assert " left" not in ended.out
    assert "-" not in ended.out.partition("next:")[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("../a.zip,1MB,https://host/a", "line 2: file name '../a.zip' is not a plain relative name"),
        ("/etc/a,1MB,https://host/a", "is not a plain relative name"),
        (".partial/a,1MB,https://host/a", "is not a plain relative name"),
        ("a.zip,1MB,ftp://host/a", "is not an https address"),
        ("a.zip,1MB,http://host:8080/a", "is not an https address"),
        ("a.zip,1MB,https://me:secret@host/a", "has a user name or password in it"),  # pragma: allowlist secret
        ("a.zip,1MB,https://:secret@host/a", "has a user name or password in it"),  # pragma: allowlist secret
        ("a.zip,1MB,https://host:port/a?secret", "is not an address"),
        ("a.zip,1MB,https://a..b/a.zip", "is not an address"),
        ("a.zip,big,https://host/a", "size 'big' is not one such as 345.91MB"),
        ("a.zip,1MB,https://host/a\na.zip,1MB,https://host/a", "line 3: 'a.zip' appears twice"),
        ("", "has no rows"),
    ],
)
def test_a_list_that_cannot_be_used_names_its_line(tmp_path: Path, row: str, words: str) -> None:
    (tmp_path / "list.csv").write_text(f"file,size,link\n{row}\n")
    with pytest.raises(InputError, match="list.csv") as caught:
        read_links(tmp_path / "list.csv")
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_link_into_another_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file,link\nsub/a.zip,https://host/a\n")
    folder = tmp_path / "input"
    folder.mkdir()
    (folder / "sub").symlink_to(tmp_path)
    with pytest.raises(InputError, match="outside"):
        download_links(read_links(tmp_path / "list.csv"), folder, 1)


def test_http_links_of_tianchi_are_taken_over_https_and_sizes_are_rounded() -> None:
    assert secure("http://host.com/a?b=%2F", "x") == "https://host.com/a?b=%2F"
    size = parse_size("345.91MB", "x")
    assert size
    assert size.fits(362_715_000)  # of 1,024
    assert size.fits(345_912_345)  # of 1,000
    assert not size.fits(350_000_000)


def test_without_a_source_one_line_says_where_to_get_the_files(podium: Podium) -> None:
    refused(podium("download"), "give --links mchar_data_list_0515.csv", "tianchi.aliyun.com")
    refused(podium("download", "--links", "no.csv"), "--links no.csv: no such file")
