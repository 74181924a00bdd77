"""The page in a real Chromium: sorted, filtered, opened, by pointer and by keyboard.

`make test-page` installs what this needs; without a browser it is skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up_records import begun, counted, make, make_pretrained, told

from lra_bench import leaderboard
from lra_bench import record as records

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
HOSTILE = "<img src=x onerror=alert(1)>"
CURVE = [{"step": 10 * step, "validation_accuracy": 0.2 + step / 100} for step in range(1, 9)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        installed = next(filter(None, map(shutil.which, NAMES)), None)
        own = playwright.chromium.executable_path
        if installed is None and not Path(own).exists():
            pytest.skip("no Chromium is installed; `make test-page` installs one")
        # A sandbox needs rights that root in a container has not.
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=installed, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("results")
    for model, share in (("transformer", 40), ("local", 30), ("ernie_sparse", 50)):
        for task, offset in (("listops", 0), ("text", 20)):
            for seed in range(3):
                right = 200 * (share + offset) + 10 * seed
                command = f"lra-bench run task={task} model={model} seed={seed}"
                record = make(
                    *(seed, 0),
                    model=model,
                    task=task,
                    test=counted(right, 20_000),
                    curve=CURVE,
                    command=command,
                    train_seconds=100.0 * share,
                )
                records.write(record, folder)
    records.write(make(model=HOSTILE, data=told(HOSTILE, note=HOSTILE), setting="small"), folder)
    parent = make_pretrained(setting="lra2020")
    records.write(parent, folder)
    for seed in range(2):
        command = f"lra-bench run setting=lra2020 init_from={parent.run_id} seed={seed}"
        records.write(begun(parent, seed, 700, setting="lra2020", command=command), folder)
    shipped = Path(leaderboard.__file__).parents[2] / "results/published.csv"
    families = {"transformer": "dense", "local": "sparse", "ernie_sparse": "sparse"}
    leaderboard.publish([folder], folder, published=shipped, families=families)
    return (folder / "leaderboard.html").as_uri()


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """Return the page, which must neither complain nor ask for anything else."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if request.url != address else None)
    page.goto(address)
    yield page
    assert said == []
    page.close()


def first_column(page: Page, section: str) -> list[str]:
    heads = page.locator(f"#{section} .card").first.locator("tbody th")
    texts: list[str] = heads.all_inner_texts()
    return texts


def chooser(page: Page, name: str) -> Locator:
    return page.get_by_role("combobox", name=name)


def test_a_click_on_a_heading_sorts(opened: Page) -> None:
    down = ["ernie_sparse sparse", "transformer dense", "local sparse"]
    assert first_column(opened, "overview") == down
    heading = opened.locator("#overview th", has_text="listops")
    assert heading.get_attribute("aria-sort") == "descending"
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert first_column(opened, "overview") == down[::-1]
    opened.locator("#overview th").get_by_role("button", name="model").press("Enter")
    assert first_column(opened, "overview") == [down[0], down[2], down[1]]


def test_filters_narrow_everything_down(opened: Page) -> None:
    status = opened.get_by_role("status")
    assert status.inner_text() == "3 models, 6 results"
    chooser(opened, "Family").select_option("sparse")
    assert status.inner_text() == "2 models, 4 results"
    chooser(opened, "Task").first.select_option("text")
    assert status.inner_text() == "2 models, 2 results"
    assert opened.locator("#overview thead th").all_inner_texts() == ["model", "text"]
    assert opened.locator("#cost circle").count() == 2
    opened.get_by_role("searchbox", name="Model").fill("LOC")
    assert first_column(opened, "overview") == ["local sparse"]
    opened.get_by_role("searchbox", name="Model").fill("nothing")
    assert "Nothing fits these filters." in opened.locator("#overview").inner_text()
    chooser(opened, "Family").select_option("")
    opened.get_by_role("searchbox", name="Model").fill("")
    chooser(opened, "Setting").select_option("small")
    assert status.inner_text() == "1 model, 1 result"


def test_a_number_opens_the_runs_behind_it(opened: Page) -> None:
    number = opened.get_by_role("button", name="local on listops: 30.05 ± 0.05, 3 seeds").first
    number.hover()
    assert "seed 2: 30.10" in opened.get_by_role("tooltip").inner_text()
    number.click()
    dialog = opened.get_by_role("dialog", name="local on listops, setting cpu")
    text = dialog.inner_text()
    assert "29.93 to 30.17" in text
    for seed in range(3):
        assert f"lra-bench run task=listops model=local seed={seed}" in text
    assert dialog.locator("polyline").count() == 3
    links = [link.get_attribute("href") for link in dialog.get_by_role("link").all()]
    folder = Path(opened.url.removeprefix("file://")).parent
    assert len(links) == 3
    for link in links:
        assert records.read(folder / str(link)).model == "local"
    opened.keyboard.press("Escape")
    assert dialog.is_hidden()
    # The focus goes back to where it was.
    assert number.evaluate("element => element === document.activeElement")


def test_the_keyboard_reaches_a_bubble(opened: Page) -> None:
    chooser(opened, "Cost").select_option("memory")
    bubble = opened.locator("#cost").get_by_role("button", name="transformer: accuracy [%] 40.05")
    bubble.focus()
    assert "peak memory [MB] 1,000" in opened.get_by_role("tooltip").inner_text()
    bubble.press("Enter")
    assert opened.get_by_role("dialog", name="transformer on listops").is_visible()
    opened.get_by_role("button", name="Close").click()
    assert opened.get_by_role("dialog").is_hidden()


def test_published_numbers_change_with_the_protocol(opened: Page) -> None:
    published = opened.locator("#published")
    row = published.get_by_role("row").filter(has_text="ERNIE-Sparse")
    assert row.locator("td").all_inner_texts() == [*[""] * 6, "57.78", "", "5"]
    chooser(opened, "Protocol").select_option("large-model")
    assert "larger models" in published.inner_text()
    assert row.count() == 0


def test_pretraining_stands_apart_and_is_paid_for(opened: Page) -> None:
    equal = opened.locator("#equal-cost")
    cells = equal.locator("tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[:3] == ["transformer", "listops", "1,200"]
    assert cells[5:] == ["35.00 (2, 1 pretraining)", "1,000", "6m 02s"]
    seconds = ["10m 05s", "6m 02s", "1h 01m", ""]
    assert [opened.evaluate("asSeconds", text) for text in seconds] == [605, 362, 3660, None]
    (missing,) = equal.locator("li").all_inner_texts()
    assert missing.startswith("transformer on listops: lra-bench run -m setting=lra2020 train.num")
    assert chooser(opened, "Cost").locator("option[value=total]").count() == 0
    chooser(opened, "Setting").select_option("lra2020")
    heading = opened.locator("#overview h3")
    assert heading.all_inner_texts() == ["Pretraining, which is no result on a task"]
    assert opened.locator("#overview thead th").all_inner_texts()[1] == "listops, denoising"
    chooser(opened, "Setting").select_option("lra2020 + denoising")
    row = opened.locator("#tasks tbody tr").first.locator("th, td").all_inner_texts()
    assert row[2:4] == ["1 pretraining", "2 (1 pretraining)"]
    assert row[7:12] == ["1m 02s", "1", "5m 00s", "1,200", "6m 02s"]
    chooser(opened, "Cost").select_option("total")
    assert opened.locator("#cost circle").count() == 1
    opened.locator("#overview .value").click()
    assert "with pretraining" in opened.get_by_role("dialog").inner_text()


def test_a_hostile_name_is_text(opened: Page) -> None:
    chooser(opened, "Setting").select_option("small")
    assert HOSTILE in opened.locator("#overview").inner_text()
    opened.locator("#overview .value").click()
    assert HOSTILE in opened.get_by_role("dialog").inner_text()
    assert opened.locator("img").count() == 0


def test_everything_has_a_name_for_those_who_hear_it(opened: Page) -> None:
    unnamed = """() => [...document.querySelectorAll("button, select, input, [role], svg, table")]
        .filter((one) => !one.closest("[aria-hidden]") && !one.closest("[hidden]"))
        .filter((one) => !(one.getAttribute("aria-label") || one.innerText || one.labels?.length
            || one.caption?.textContent || one.getAttribute("role") === "status"))
        .map((one) => one.outerHTML.slice(0, 90))"""
    assert opened.evaluate(unnamed) == []
    opened.locator("#overview .value").first.click()
    assert opened.evaluate(unnamed) == []
    assert opened.locator("h1").count() == 1


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light"), (390, "dark")])
def test_it_fits_a_phone_in_both_themes(
    browser: Browser, address: str, width: int, theme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=theme)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    light = "getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 128"
    assert page.evaluate(light) is (theme == "light")
    page.get_by_role("button", name="Theme: system").click()
    assert page.evaluate(light)
    page.get_by_role("button", name="Theme: light").click()
    assert not page.evaluate(light)
    page.emulate_media(media="print")
    assert page.evaluate(light)
    # Ink is black on paper, whatever the theme.
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.locator("#filters").is_hidden()
    page.close()
