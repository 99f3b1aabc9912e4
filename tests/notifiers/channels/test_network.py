from __future__ import annotations

from pathlib import Path

import pytest

from loop.errors import UserError
from notifiers.channels.network import SOCKS_PACKAGE, check_certificates, checked_proxy, proxy_for
from notifiers.channels.slack import make_client
from notifiers.channels.telegram_wire import Wire

URL = "https://api.telegram.org"


@pytest.mark.parametrize(
    "others", ["localhost,::1,[::1]", "fd00:1::/64", "[fd00::1]:80, ,,*.lan", "10.0.0.0/8"]
)
def test_what_stands_in_no_proxy_does_no_harm(others: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", others)
    assert proxy_for(URL) == "http://127.0.0.1:9"
    Wire(URL)
    monkeypatch.setenv("no_proxy", f"{others},telegram.org")
    assert proxy_for(URL) is None


def test_a_socks_proxy_without_its_package_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifiers.channels.network.find_spec", lambda _: None)
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        Wire(URL)
    assert SOCKS_PACKAGE in str(error.value)


def test_slack_has_no_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(UserError, match="SOCKS"):
        make_client("xoxb-1")


@pytest.mark.parametrize(
    "proxy",
    [
        "http://[bad",
        "http://me:hush@host:99999",
        "ftp://host:1",
        "http://:80",
        "http://ho st:1",
        "http://hüst:1",
        "x:y",
    ],
)
def test_a_proxy_that_is_none_is_refused_and_not_repeated(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(UserError) as error:
        proxy_for(URL)
    assert proxy not in str(error.value)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("proxy", "url"),
    [("127.0.0.1:9", "http://127.0.0.1:9"), ("http://[::1]:9", "http://[::1]:9"), (" http://a ", "http://a")],
)
def test_a_proxy_is_understood_as_other_programs_do(proxy: str, url: str) -> None:
    assert checked_proxy(proxy) == url


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there_are_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "gone.pem"))
    with pytest.raises(UserError, match=r"gone\.pem.*unset it"):
        check_certificates()
