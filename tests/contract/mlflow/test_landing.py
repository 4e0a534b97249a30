"""The links that clients print, opened in a real browser: they lead to the dashboard."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

import tunescope

CHROMIUM = Path("/usr/bin/chromium")
DASHBOARD = "http://localhost:8501"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip


def test_the_root_says_what_is_here(live_service: str) -> None:
    with urllib.request.urlopen(live_service) as answer:
        page, headers = answer.read().decode(), answer.headers
    assert headers["content-type"].startswith("text/html")
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert f'href="{DASHBOARD}"' in page
    assert 'href="docs"' in page


@pytest.fixture
def leads_to() -> Iterator[Callable[[str], str]]:
    """Where a browser ends up that opens an address. The dashboard is not there: its answers are made up."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page()
        faults: list[Any] = []
        page.on("pageerror", lambda fault: faults.append(fault))
        page.route(f"{DASHBOARD}/**", lambda route: route.fulfill(body="the dashboard"))

        def follow(address: str) -> str:
            page.goto("about:blank")
            page.goto(address)
            page.wait_for_url(f"{DASHBOARD}/**")
            assert not faults
            return str(page.url.removeprefix(DASHBOARD))

        yield follow
        browser.close()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no Chromium at {CHROMIUM}: apt-get install chromium")
def test_links_of_clients_lead_to_the_dashboard(
    uri: str, leads_to: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mlflow.set_experiment("links & more")
    with mlflow.start_run() as run:
        pass
    to_run, to_experiment = re.findall(r"at: (\S+)", capsys.readouterr().out)
    assert leads_to(to_run) == f"/run?id={run.info.run_id}"
    assert leads_to(to_experiment) == "/runs?project=links%20%26%20more"
    assert leads_to(f"{uri}/#/experiments/999") == "/runs"
    assert leads_to(f"{uri}/#/models/m/versions/1") == "/models"
    native = tunescope.init(url=uri, dir=tmp_path, system_interval=None, console=False, quiet=True)
    native.finish()
    assert native.url is not None
    assert leads_to(native.url) == f"/run?id={native.id}"
