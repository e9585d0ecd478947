"""Open the built site in headless Chromium, without a network, and print what is wrong with each page as JSON.

`build/site-venv/bin/python browse.py FOLDER CHROMIUM [PAGE ...]`: it needs playwright, which the tests' own environment
does not have. Without pages: all but those of the API, of which three are opened.
"""

import functools
import http.server
import json
import sys
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, sync_playwright

SIZE = {"width": 1440, "height": 900}
OPENED_OF_API = 3
FAULTS = Path(__file__).with_name("faults.js").read_text(encoding="utf-8")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that writes no line for each request."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    """Serve a folder on a free port of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pages(folder: Path) -> list[str]:
    """Return the pages to open."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    of_api = [name for name in found if name.startswith("api/") and name.endswith("/index.html")]
    return [name for name in found if not name.startswith("api/")] + of_api[:: max(1, len(of_api) // OPENED_OF_API)]


def faults(page: Page, address: str) -> list[str]:
    """Return what is wrong with one page: console errors, failed and foreign requests, and what `faults.js` finds."""
    heard: list[str] = []
    page.on("console", lambda one: heard.append(f"console: {one.text}") if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: heard.append(f"script: {error}"))
    page.on("response", lambda one: heard.append(f"{one.status}: {one.url}") if one.status >= 400 else None)

    def only_here(route: Route) -> None:
        if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            route.continue_()
        else:
            heard.append(f"fetched from outside: {route.request.url}")
            route.abort()

    page.route("**/*", only_here)
    page.goto(address, wait_until="load")
    page.evaluate("() => Promise.all([document.fonts.ready, window.MathJax?.startup?.promise])")
    return [*heard, *page.evaluate(FAULTS)]


def filtered(page: Page, address: str) -> dict[str, Any]:
    """Return how many rows the scorecard shows: all, after a choice of the first paper, and after a text besides."""
    page.goto(f"{address}/scorecard.html", wait_until="load")
    rows = "table.filterable tbody tr:not([hidden])"
    told = {"all": page.locator(rows).count()}
    page.locator(".filters select").first.select_option(index=1)
    told["papers"] = page.locator(rows).evaluate_all(
        "rows => [...new Set(rows.map((row) => row.cells[0].textContent.trim()))]"
    )
    told["one paper"] = page.locator(rows).count()
    page.locator(".filters input").fill("no claim says this")
    return told | {"none": page.locator(rows).count()}


def searched(page: Page, address: str, words: str) -> list[str]:
    """Return the addresses that a search for words finds."""
    page.goto(f"{address}/search.html?q={words}", wait_until="load")
    page.wait_for_selector("#search-results li a", timeout=30_000)
    return page.locator("#search-results li a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")


def main(folder: Path, chromium: str, chosen: list[str]) -> dict[str, Any]:
    """Open the pages one after the other."""
    server = serve(folder)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport=SIZE)
        told: dict[str, Any] = {"faults": {}}
        for name in chosen or pages(folder):
            page = context.new_page()
            told["faults"][name] = faults(page, f"{address}/{name}")
            page.close()
        page = context.new_page()
        if not chosen:
            told |= {"filter": filtered(page, address), "search": searched(page, address, "abar")}
        browser.close()
    server.shutdown()
    return told


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))
