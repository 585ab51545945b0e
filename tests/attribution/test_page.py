"""The page of explanations: what the file holds, and what a browser shows when one scrolls, slides and selects."""

import logging
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from scale.attribution.report import colours, page
from scale.attribution.report.page import Sample, write_page
from scale.attribution.report.trust_table import clear_best, quality_table

SHAPE = (5, 6, 8)
FREE = 1  # cells at the border of a panel may be under the hairlines


def volume():
    """No two cells alike: no flip or exchange of axes goes unseen."""
    return np.round(np.linspace(20, 235, int(np.prod(SHAPE)))).astype(np.uint8).reshape(SHAPE)


def maps():
    rng = np.random.default_rng(0)
    signed, unsigned = rng.normal(size=SHAPE), rng.random(SHAPE)
    signed[1, 4, 6] = 9.0
    unsigned[3, 2, 1] = 5.0
    return {"integrated_gradients": signed, "gradcam_fusion": unsigned, "random": rng.random(SHAPE)}


def samples():
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 2:5, 3:6] = True
    image = np.random.default_rng(1).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    flat = {name: values[1] for name, values in maps().items()}
    return [
        Sample("truth: cyst   prediction: cyst (0.91, right)", volume(), maps(), mask, {"index": "7"}),
        Sample("truth: <b>none</b>", volume()[::-1].copy(), maps()),
        Sample("a colour image", image, flat),
    ]


def rows():
    cells = {
        ("integrated_gradients", "insertion_auc"): (0.8, 0.7, 0.9),
        ("gradcam_fusion", "insertion_auc"): (0.6, 0.4, 0.69),
        ("random", "insertion_auc"): (0.4, 0.3, 0.5),
        ("integrated_gradients", "deletion_auc"): (0.2, 0.1, 0.3),
        ("gradcam_fusion", "deletion_auc"): (0.1, 0.05, 0.2),
        ("random", "deletion_auc"): (0.05, 0.01, 0.35),
        ("random", "pointing_game"): (float("nan"), float("nan"), float("nan")),
    }
    better = {"insertion_auc": "higher", "deletion_auc": "lower", "pointing_game": "higher"}
    return [
        {"method": m, "metric": k, "better": better[k], "mean": v[0], "low": v[1], "high": v[2], "n": 12}
        for (m, k), v in cells.items()
    ]


def written(tmp_path, **changes):
    given = {"samples": samples(), "quality_rows": rows(), "header": {"run": "runs/<x>"}} | changes
    write_page(tmp_path / "explanations.html", **given)
    return tmp_path / "explanations.html"


def test_the_orientation_names_the_planes(tmp_path):
    assert '"planes":["axial","coronal","sagittal"]' in written(tmp_path).read_text()
    assert '"planes":["sagittal","coronal","axial"]' in written(tmp_path, orientation="RAS").read_text()


def test_the_file_needs_nothing_else_and_no_text_breaks_out(tmp_path):
    text = written(tmp_path, title="A & B </script>").read_text()
    assert not re.search(r"{{\w+}}", text)
    assert "default-src 'none'" in text  # the browser refuses whatever the page might load
    assert not re.search(
        r"""(src|@import|<link|url\()\s*=?""",
        text.replace("default-src", "").replace("img-src", "").replace("script-src", "").replace("style-src", ""),
    )
    assert text.count("</script>") == 2
    assert "<b>none</b>" not in text
    assert "runs/&lt;x&gt;" in text
    assert "<title>A &amp; B &lt;/script&gt;</title>" in text


def test_table_marks_the_best_and_what_is_clear_of_random():
    table = quality_table(rows())
    lines = re.findall(r"<tr.*?</tr>", table, flags=re.DOTALL)
    assert re.findall(r"(\w[\w ]+) <em>(.)", lines[0]) == [
        ("pointing game", "↑"),
        ("deletion auc", "↓"),
        ("insertion auc", "↑"),
    ]
    assert re.findall("<small>(.*?)</small>", lines[0]) == ["n = 12"] * 3
    cells = {re.search('data-method="(\\w+)', line)[1]: re.findall(r'<td class="([^"]*)"', line) for line in lines[1:]}
    assert cells == {
        "integrated_gradients": ["none", "", "best clear"],
        "gradcam_fusion": ["none", "", ""],  # not clear of the second best
        "random": ["none", "", ""],
    }
    assert 'class="control"' in lines[3]
    assert "<small>0.700 – 0.900</small>" in table
    as_text = [{key: "" if value != value else str(value) for key, value in row.items()} for row in rows()]
    assert quality_table(as_text) == table  # rows as a CSV file gives them
    assert quality_table([]) == ""


def test_the_best_is_clear_of_the_second_and_randomisation_is_best_near_zero():
    intervals = {"a": (-0.05, -0.1, 0.05), "b": (0.3, 0.2, 0.4), "c": (-0.6, -0.7, -0.5)}
    assert clear_best(intervals, "zero") == "a"
    assert clear_best(intervals, "higher") is None or intervals["b"][1] > intervals["a"][2]
    assert clear_best(intervals, "lower") == "c"
    assert clear_best({"a": (-0.05, -0.3, 0.05), "b": (0.3, 0.2, 0.4)}, "zero") is None  # 0.3 away is possible too
    assert clear_best({"a": (0.5, 0.4, 0.6), "b": (0.5, 0.4, 0.6)}, "higher") is None
    row = {"method": "c", "metric": "randomisation", "better": "zero", "mean": -0.6, "low": -0.7, "high": -0.5, "n": 4}
    table = quality_table([row, {**row, "method": "random", "mean": 1.0, "low": 1.0, "high": 1.0}])
    assert "→ 0" in table
    assert 'class="clear"' in table


def test_a_warning_is_kept_for_the_viewer(tmp_path):
    first, *others = samples()
    text = written(tmp_path, samples=[replace(first, warning="its peak moves <far>"), *others]).read_text()
    assert '"warning":"its peak moves \\u003cfar>"' in text


def test_bad_input_writes_nothing(tmp_path):
    image, good = volume(), maps()
    for changed, message in (
        ([], "at least one sample"),
        ([Sample("x", image / 255, good)], "uint8 images"),
        ([Sample("x", image, {"a": np.zeros((5, 6, 7))})], "does not fit"),
        ([Sample("x", image, {"a": np.zeros(SHAPE), "b": np.zeros((6, 8))})], "b .* does not fit"),
        ([Sample("x", image, good, mask=np.zeros((6, 8)))], "mask .* does not fit"),
        ([Sample("x", image, {"a": np.full(SHAPE, np.nan)})], "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            written(tmp_path, samples=changed)
        assert not list(tmp_path.iterdir())


def test_a_large_page_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(page, "LARGE", 1000)
    caplog.set_level(logging.WARNING, logger="scale")
    written(tmp_path)
    assert "fewer samples or methods" in caplog.text


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is driven with playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium to open the page with")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=program, args=options)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, tmp_path):
    """The page in a browser without a network; nothing may be asked for, nothing may go wrong."""
    path = written(tmp_path)
    context = browser.new_context(viewport={"width": 1440, "height": 900}, offline=True)
    view, requests, errors = context.new_page(), [], []
    view.on("request", lambda request: requests.append(request.url))
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    view.goto(path.as_uri())
    view.wait_for_selector("body[data-ready]")
    yield view
    context.close()
    assert set(requests) == {path.as_uri()}
    assert errors == []


def shown(view, selector, shape):
    """Colours (H, W, 3) of a canvas, read at the middle of each cell, without the border where the hairlines are."""
    found = view.evaluate(
        """([selector, h, w]) => {
            const canvas = document.querySelector(selector), g = canvas.getContext("2d"), out = [];
            for (let r = 0; r < h; r++) for (let c = 0; c < w; c++)
                out.push([...g.getImageData((c + 0.5) * canvas.width / w, (r + 0.5) * canvas.height / h, 1, 1).data]);
            return out;
        }""",
        [selector, *shape],
    )
    return np.array(found).reshape(*shape, 4)[FREE:-FREE, FREE:-FREE, :3]


def expected(image, values, *, opacity, whole, threshold=0.0, signed=None):
    """The same from the arrays: window and range are those of the whole volume."""
    picture, largest = np.asarray(image, dtype=float), colours.limit(whole[1])
    if picture.ndim == 2:
        low, high = colours.window(whole[0])
        picture = np.repeat((255 * (picture - low) / (high - low))[..., None], 3, axis=2)
    signed = colours.is_signed(whole[1]) if signed is None else signed
    rgba = colours.overlay(values, largest=largest, signed=signed, opacity=opacity)
    share = rgba[..., 3:] * (np.round(127 * np.abs(values) / largest) / 127 >= threshold)[..., None]
    return (picture * (1 - share) + 255 * rgba[..., :3] * share)[FREE:-FREE, FREE:-FREE]


def assert_planes(view, image, values, point, *, opacity=0.75, threshold=0.0):
    for axis in range(3):
        part, over = image.take(point[axis], axis), values.take(point[axis], axis)
        want = expected(part, over, opacity=opacity, whole=(image, values), threshold=threshold)
        np.testing.assert_allclose(shown(view, f"#plane-{axis}", part.shape), want, atol=4)
        assert view.locator(f"#slice-{axis}").input_value() == str(point[axis])


def test_the_viewer_shows_the_planes_through_the_peak_in_the_right_orientation(opened):
    assert_planes(opened, volume(), maps()["integrated_gradients"], (1, 4, 6))
    assert opened.locator("#title").text_content() == "truth: cyst   prediction: cyst (0.91, right)"
    assert "depth 1 of 4" in opened.locator("#planes").text_content()
    assert opened.locator("#planes .way").all_text_contents() == [
        "row ↓   column →",
        "depth ↓   column →",
        "depth ↓   row →",
    ]


def test_scrolling_each_axis_by_slider_wheel_and_click(opened):
    image, values = volume(), maps()["integrated_gradients"]
    for axis, index in enumerate((3, 2, 5)):
        opened.locator(f"#slice-{axis}").fill(str(index))
    assert_planes(opened, image, values, (3, 2, 5))
    for axis, (way, want) in enumerate(((100, 4), (-100, 1), (100, 6))):
        opened.locator(f"#plane-{axis}").hover()
        opened.mouse.wheel(0, way)
        opened.locator(f"#slice-{axis}").and_(opened.locator(f"[data-at='{want}']")).wait_for()
    assert_planes(opened, image, values, (4, 1, 6))
    opened.locator("#plane-0").hover()
    for _ in range(3):
        opened.mouse.wheel(0, 100)  # stops at the end
    box = opened.locator("#plane-0").bounding_box()  # a square around 6 rows and 8 columns
    cell = box["width"] / 8
    opened.mouse.click(box["x"] + 2.5 * cell, box["y"] + (box["height"] - 6 * cell) / 2 + 4.5 * cell)
    assert_planes(opened, image, values, (4, 4, 2))
    opened.locator("#peak").click()
    assert_planes(opened, image, values, (1, 4, 6))


def test_opacity_and_threshold(opened):
    image, values = volume(), maps()["integrated_gradients"]
    opened.locator("#opacity").fill("0")
    assert_planes(opened, image, values, (1, 4, 6), opacity=0.0)
    opened.locator("#opacity").fill("100")
    assert_planes(opened, image, values, (1, 4, 6), opacity=1.0)
    assert opened.locator("#opacity-value").text_content() == "100 %"
    opened.locator("#threshold").fill("12")
    assert_planes(opened, image, values, (1, 4, 6), opacity=1.0, threshold=0.12)


def test_method_selector_and_legend(opened):
    assert opened.locator("#method option").all_text_contents() == [
        "integrated gradients",
        "gradcam fusion",
        "random (control)",
    ]
    ends = [opened.locator(f"#{end}").text_content() for end in ("low", "middle", "high")]
    limits = {name: colours.limit(values) for name, values in maps().items()}
    assert ends == [f"−{limits['integrated_gradients']:.2f}", "0", f"{limits['integrated_gradients']:.2f}"]
    opened.select_option("#method", label="gradcam fusion")
    assert_planes(opened, volume(), maps()["gradcam_fusion"], (1, 4, 6))  # one stays where one is
    assert [opened.locator(f"#{end}").text_content() for end in ("low", "high")] == [
        "0",
        f"{limits['gradcam_fusion']:.3f}",
    ]
    opened.locator("#methods button").nth(2).click()
    assert opened.locator("#method").input_value() == "2"
    assert_planes(opened, volume(), maps()["random"], (1, 4, 6))
    opened.locator("#quality tbody th").first.click()
    assert opened.locator("#method").input_value() == "0"


def test_the_page_opens_with_the_wanted_method(opened, tmp_path):
    path = written(tmp_path, first="gradcam_fusion")
    opened.reload()
    opened.wait_for_selector("body[data-ready]")
    assert opened.locator("#method").input_value() == "1"
    assert_planes(opened, volume(), maps()["gradcam_fusion"], (3, 2, 1))
    assert path.as_uri() == opened.url


def test_samples_in_three_and_two_dimensions(opened):
    opened.select_option("#method", label="gradcam fusion")
    opened.locator("#samples button").nth(1).click()
    opened.locator("#title", has_text="truth: <b>none</b>").wait_for()
    assert_planes(opened, volume()[::-1], maps()["gradcam_fusion"], (3, 2, 1))  # the method is kept
    opened.locator("#samples button").nth(2).click()
    opened.wait_for_selector("#planes.flat")
    sample = samples()[2]
    values = sample.maps["gradcam_fusion"]
    want = expected(sample.image, values, opacity=0.75, whole=(sample.image, values))
    np.testing.assert_allclose(shown(opened, "#plane-0", (6, 8)), want, atol=4)
    assert opened.locator("#planes canvas").count() == 1
    assert not opened.locator("#outline-row").is_visible()


def test_outline_of_the_lesion_can_be_hidden(opened):
    opened.locator("#slice-0").fill("2")
    green = """() => {
        const canvas = document.querySelector("#plane-0"), g = canvas.getContext("2d");
        const all = g.getImageData(0, 0, canvas.width, canvas.height).data;
        let found = 0;
        for (let i = 0; i < all.length; i += 4) found += all[i] < 90 && all[i + 1] > 220 && all[i + 2] < 160;
        return found;
    }"""
    assert opened.evaluate(green) > 100
    opened.locator("#outline").uncheck()
    assert opened.evaluate(green) == 0
