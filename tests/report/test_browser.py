"""The report page in Chromium at desktop and phone width. Run with pytest -m browser."""

import functools
import http.server
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kr_text.experiments.run import Run
from kr_text.report.page import write_page
from page_cases import add, write_grid

pytestmark = pytest.mark.browser

CHROMIUM = (
    "chromium --headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run --virtual-time-budget=5000 --dump-dom"
)
# Measures the page at a width: the page's width, the number of visible figures and tables, the font size, the largest
# overflow of a table, and the number of texts in figures that are cut off or overlap another text.
FRAME = """<iframe id="page" src="report.html" style="border:0;width:{width}px;height:800px"></iframe>
<script>document.getElementById("page").onload = event => {{
  const page = event.target.contentDocument;
  const shown = [...page.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().width > 100).length;
  const size = parseFloat(getComputedStyle(page.body).fontSize);
  const boxes = [...page.querySelectorAll("table")].map(table => table.parentElement);
  const hidden = Math.max(...boxes.map(box => box.scrollWidth - box.clientWidth));
  const overlap = (a, b) => Math.min(Math.min(a.right, b.right) - Math.max(a.left, b.left),
                                     Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
  let unreadable = 0;
  for (const svg of page.querySelectorAll("svg")) {{
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(text => text.getBoundingClientRect());
    unreadable += texts.filter(box => box.left < frame.left - 1 || box.right > frame.right + 1
                                      || box.top < frame.top - 1 || box.bottom > frame.bottom + 1).length;
    unreadable += texts.filter((box, k) => texts.some((other, j) => j < k && overlap(box, other) > 2)).length;
  }}
  document.title = [page.documentElement.scrollWidth, shown, boxes.length, size, hidden, unreadable].join(" ");
}}</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Does not log requests."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with a page, and its URL."""
    folder = tmp_path_factory.mktemp("site")
    training = "learning_rate=0.0005,num_train_epochs=4"
    setting = f"dataset: yelp_review_full, model: [textrnn, charcnn, transformer], training: '{training}'"
    runs = f"{{{setting}, loss: [ce, ls, kr, kr-ls], seed: 1-2}}"
    for section in ("table3", "cost"):
        write_grid(folder, section, runs, section=section)
    for model in ("textrnn", "charcnn", "transformer"):
        for seed in (1, 2):
            for place, loss in enumerate(("ce", "ls", "kr", "kr-ls")):
                add(folder, Run("yelp_review_full", model, loss, seed, training=training), 80 - 20 * place + seed)
    write_page(folder)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_and_shows_its_figures(site: tuple[Path, str], tmp_path: Path, width: int) -> None:
    folder, address = site
    (folder / "frame.html").write_text(FRAME.format(width=width))
    command = [*CHROMIUM.split(), f"--user-data-dir={tmp_path}", f"{address}/frame.html"]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    page_width, figures, tables, font_size, hidden, unreadable = map(float, title[1].split())
    html = (folder / "report.html").read_text()
    assert page_width <= width
    assert figures == html.count("<svg") > 0
    assert tables == html.count("<table") > 0
    assert font_size >= 14
    assert width < 1280 or hidden == 0  # on a phone tables scroll
    assert unreadable == 0
