"""Open notebooks in JupyterLab in headless Chromium, run all their cells, touch their widgets, print what went wrong.

`build/site-venv/bin/python run_all.py ADDRESS TOKEN CHROMIUM NOTEBOOK ...`: it needs playwright, which the tests' own
environment does not have. The server must show its application to scripts (`LabApp.expose_app_in_browser`).
"""

import json
import sys

from playwright.sync_api import Page, sync_playwright

MINUTES = 10  # for the cells of one notebook
ANSWER = 60_000  # milliseconds for a widget
READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return Boolean(panel?.content?.model?.cells?.length > 1 && panel.sessionContext?.isReady);
}"""
RUN = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
ERRORS = """() => {
    const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
    return cells.flatMap(cell => cell.type === 'code' ? cell.outputs.toJSON() : [])
        .filter(output => output.output_type === 'error').map(output => `${output.ename}: ${output.evalue}`);
}"""
WIDGETS = """() => {
    const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
    const holds = cell => cell.type === 'code' && cell.outputs.toJSON().some(
        output => 'application/vnd.jupyter.widget-view+json' in (output.data ?? {}));
    return cells.flatMap((cell, place) => holds(cell) ? [place] : []);
}"""
SHOW = "place => window.jupyterapp.shell.currentWidget.content.scrollToItem(place, 'start')"
SEEN = """place => [...document.querySelectorAll(`.jp-Cell[data-windowed-list-index="${place}"] .jupyter-widgets`)]
    .map(one => one.innerHTML + [...one.querySelectorAll('img')].map(image => image.src)).join()"""
CHANGED = f"([place, before]) => ({SEEN})(place) !== before"


def faults(page: Page, address: str) -> list[str]:
    """Return what is wrong with a notebook once all its cells ran and each of its widgets was touched."""
    heard: list[str] = []
    page.on("pageerror", lambda error: heard.append(f"script: {error}"))
    page.goto(address, wait_until="load")
    page.wait_for_function(READY, timeout=ANSWER)
    page.set_default_timeout(MINUTES * 60_000)
    if page.evaluate(RUN) is False:
        heard.append("not all cells ran")
    heard += page.evaluate(ERRORS)
    for place in page.evaluate(WIDGETS):
        page.evaluate(SHOW, place)
        area = page.locator(f'.jp-Cell[data-windowed-list-index="{place}"] .jupyter-widgets').first
        area.wait_for(timeout=ANSWER)
        before = page.evaluate(SEEN, place)
        heard += touched(area)
        try:
            page.wait_for_function(CHANGED, arg=[place, before], timeout=ANSWER)
        except Exception as error:
            heard.append(f"the widget of cell {place + 1} does not answer: {error}")
    return [*heard, *page.evaluate(ERRORS)]


def touched(area: object) -> list[str]:
    """Give the first control of a widget another value; return what is wrong where it has none."""
    text, choice = area.locator("input[type=text]").first, area.locator("select").first
    if choice.count():
        choice.select_option(index=1)
    elif text.count():
        text.fill("the king sent a swift horse to the city")
        text.press("Enter")
    else:
        return ["a widget without a text or a choice"]
    return []


def main() -> None:
    """Print the faults of each notebook as JSON."""
    address, token, chromium, *names = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = {}
        for name in names:
            page = browser.new_page(viewport={"width": 1440, "height": 1400})
            found[name] = faults(page, f"{address}/lab/tree/{name}?reset&token={token}")
            page.close()
        browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
