"""The leaderboard's page in a browser: nothing is asked of a network, rows sort and are filtered, points are drawn."""

import shutil

import pytest
from run_folders import make_run

from scale.reporting import job


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of one run, open in a browser without a network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is driven with playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium to open the page with")
    root = tmp_path_factory.mktemp("page")
    make_run(root / "run")
    data = ["breastmnist", "vesselmnist3d"]
    job.write(root / "out", runs=[str(root / "run")], data=data, command="python -m scale.report <b>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=options)
        view = browser.new_context(offline=True).new_page()
        requests, errors = [], []
        view.on("request", lambda request: requests.append(request.url))
        view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.goto((root / "out" / "leaderboard.html").as_uri())
        yield view
        browser.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len({url for url in requests if url.startswith("file:")}) == 1


def shown(page, key="method"):
    """Values of the rows in the order they are shown."""
    return page.eval_on_selector_all("tr.entry", f"rows => rows.map((row) => JSON.parse(row.dataset.row)['{key}'])")


@pytest.fixture(autouse=True)
def _fresh(page):
    page.reload()


def test_it_opens_at_the_users_run(page):
    assert set(shown(page, "flag")) == {"breastmnist"}
    assert set(shown(page, "size")) == {28}
    assert page.locator("code").last.inner_text() == "python -m scale.report <b>"


def test_filters(page):
    page.select_option("#size", "")
    assert set(shown(page, "size")) == {28, 64, 128, 224, None}
    page.select_option("#flag", "vesselmnist3d")
    assert set(shown(page, "flag")) == {"vesselmnist3d"}
    page.check("#ranked")
    assert all(shown(page, "ranked"))
    page.fill("#method", "acs")
    assert set(shown(page)) == {"ResNet-18 + ACS", "ResNet-50 + ACS"}
    page.uncheck("input[value=published]")
    assert shown(page) == []
    assert "0 of" in page.inner_text("#count")


def test_columns_sort_both_ways_and_the_line_stays(page):
    page.click("th[data-key=acc] button")
    ranked, values = shown(page, "ranked"), shown(page, "acc")
    assert ranked == sorted(ranked, reverse=True)
    first = [value for value, is_ranked in zip(values, ranked, strict=True) if is_ranked]
    assert first == sorted(first, reverse=True)
    assert page.get_attribute("th[data-key=acc]", "aria-sort") == "descending"
    page.click("th[data-key=acc] button")
    assert shown(page, "acc")[: len(first)] == first[::-1]
    page.click("th[data-key=method] button")
    names = shown(page)[: len(first)]
    assert names == sorted(names, key=str.casefold)
    assert page.locator("tr.line").count() == 1


def test_points_follow_the_filters(page):
    known = sum(macs is not None for macs in shown(page, "macs"))
    assert page.locator("circle").count() == known
    before = page.locator("circle").first.get_attribute("cy")
    page.select_option("#figure", "acc")
    assert page.locator("circle").first.get_attribute("cy") != before
    page.fill("#method", "no such method")
    assert "nothing to draw" in page.text_content("#plot")


def test_a_runs_figures_are_behind_its_row(page):
    assert page.locator("tr.more:visible").count() == 0
    page.locator(".open:visible").click()
    images = page.locator("tr.more img")
    assert images.count() == 5
    assert all(image.evaluate("image => image.complete && image.naturalWidth > 100") for image in images.all())
    assert "seed 0" in page.inner_text("tr.more")
