"""A run's page: its numbers are those of the saved predictions, and it opens with nothing but itself."""

import html
import json
import re
import shutil

import numpy as np
import pytest
from runs_made_up import COLUMNS, FLAGS, make_run
from sklearn import metrics as sk

from scale import runs
from scale.evaluation.assessment import assess
from scale.reporting import run_report
from scale.reporting.refresh import refresh


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory):
    """A run of an older version, with its page made anew, for each problem; figures for two of them."""
    found = {}
    for problem in FLAGS:
        folder = tmp_path_factory.mktemp(problem) / "run"
        make_run(folder, problem)
        with pytest.MonkeyPatch.context() as patch:
            if problem in ("multilabel", "ordinal"):
                patch.setattr("scale.reporting.refresh.draw", lambda *given, **named: {})
            refresh(folder, calibrate="temperature")
        found[problem] = folder
    return found


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are left out, for tests of numbers."""
    monkeypatch.setattr("scale.reporting.refresh.draw", lambda *given, **named: {})


def cells(page, metric):
    """The numbers of a metric by split."""
    row = re.search(rf'data-metric="{metric}">(.*?)</tr>', page, re.DOTALL)[1]
    return {split: text.strip() for split, text in re.findall(r'data-split="(\w+)">([-–\d.]+)', row)}


@pytest.mark.parametrize("problem", FLAGS)
def test_a_reviewer_repeats_every_number_with_scikit_learn(refreshed, problem):
    """From the folder's predictions alone, and only with scikit-learn."""
    page = (refreshed[problem] / "report.html").read_text()
    for split in ("val", "test"):
        run = np.load(refreshed[problem] / "predictions" / f"{split}.npz")
        labels, p = run["labels"], run["probabilities"]
        several = problem == "multilabel"
        y = labels if several else np.eye(p.shape[1], dtype=int)[labels[:, 0]]
        decided = p > 0.5 if several else np.eye(p.shape[1], dtype=int)[p.argmax(axis=1)]
        truth, answer = (y, decided) if several else (labels[:, 0], p.argmax(axis=1))
        asked = slice(1, None) if problem == "binary" else slice(None)
        want = {
            "auc": np.mean([sk.roc_auc_score(a, b) for a, b in zip(y.T[asked], p.T[asked], strict=True)]),
            "acc": np.mean(truth == answer),
            "macro_precision": sk.precision_score(truth, answer, average="macro"),
            "macro_recall": sk.recall_score(truth, answer, average="macro"),
            "macro_f1": sk.f1_score(truth, answer, average="macro"),
            "average_precision": np.mean(
                [sk.average_precision_score(a, b) for a, b in zip(y.T[asked], p.T[asked], strict=True)]
            ),
            "macro_specificity": np.mean(
                [sk.recall_score(1 - a, 1 - b) for a, b in zip(y.T, decided.T.astype(int), strict=True)]
            ),
        }
        if several:
            want["exact_match"] = sk.accuracy_score(truth, answer)
        else:
            weights = "quadratic" if problem == "ordinal" else None
            want["kappa"] = sk.cohen_kappa_score(truth, answer, weights=weights)
            want["mcc"] = sk.matthews_corrcoef(truth, answer)
            want["log_loss"] = sk.log_loss(truth, p)
            want["balanced_acc"] = sk.balanced_accuracy_score(truth, answer)
        for name, value in want.items():
            assert cells(page, name)[split] == f"{value:.3f}", (name, split)


@pytest.mark.parametrize("problem", FLAGS)
def test_the_script_on_the_page_runs_and_prints_the_official_scores(refreshed, problem, monkeypatch, capsys):
    folder = refreshed[problem]
    script = html.unescape(
        re.search(r'<pre id="check">(.*?)</pre>', (folder / "report.html").read_text(), re.DOTALL)[1]
    )
    assert len(script.splitlines()) <= 10
    monkeypatch.chdir(folder)
    exec(script, {})
    record = runs.read_metrics(folder)["test"]
    said = dict(re.findall(r"(AUC|ACC) ([\d.]+)", capsys.readouterr().out))
    assert float(said["AUC"]) == pytest.approx(record["auc"], abs=1e-9)
    assert float(said["ACC"]) == pytest.approx(record["acc"], abs=1e-9)


@pytest.mark.parametrize("problem", FLAGS)
def test_nothing_leaves_the_page(refreshed, problem):
    page = (refreshed[problem] / "report.html").read_text()
    assert "default-src 'none'" in page
    addresses = re.findall(r"""(?:src|href)=["'](.*?)["']""", page)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import", page)


def test_positive_class_configuration_and_command_are_there(refreshed):
    page = (refreshed["binary"] / "report.html").read_text()
    assert "positive class: <b>normal, benign</b>" in page
    assert "python -m scale.train data=breastmnist seed=0 &#39;variant=a b&#39;" in page
    assert "672,226" in page
    assert "commit <code>abc</code>" in page
    assert page.count('class="figure"') == 6  # the sheet of mistakes needs the images
    assert "the weights of epoch 1 (counted from 0) are kept" in page


def test_an_older_record_keeps_its_scores_and_gets_what_it_lacks(refreshed):
    record = runs.read_metrics(refreshed["binary"])
    arrays = runs.read_predictions(refreshed["binary"])
    found = assess(arrays, "binary", ["malignant", "normal, benign"], calibrate="temperature")
    assert record["intervals"]["test"]["auc"] == found["intervals"]["test"]["auc"]
    assert record["calibration"]["temperature"] == pytest.approx(found["calibration"]["temperature"])
    assert record["per_class"]["names"] == ["malignant", "normal, benign"]
    assert list(record["test"])[:2] == ["auc", "acc"]
    assert record["model"]["parameters"] == 672226


def test_each_choice_changes_what_it_names(tmp_path, undrawn):
    make_run(tmp_path / "run")
    refresh(tmp_path / "run")
    first = runs.read_metrics(tmp_path / "run")
    assert "calibration" not in first
    assert (first["thresholds"]["rule"], first["conformal"]["coverage"]) == ("youden", 0.9)
    refresh(tmp_path / "run", threshold="f1", coverage=0.8, calibrate="temperature")
    second = runs.read_metrics(tmp_path / "run")
    assert second["thresholds"]["values"] != first["thresholds"]["values"]
    assert second["conformal"]["test"]["size"] < first["conformal"]["test"]["size"]
    assert "Temperature scaling" in (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "run" / "config.yaml").write_text("evaluation: {calibrate: none, threshold: f1, coverage: 0.7}\n")
    refresh(tmp_path / "run")  # as in the training
    third = runs.read_metrics(tmp_path / "run")
    assert (third["thresholds"]["rule"], third["conformal"]["coverage"]) == ("f1", 0.7)
    assert "calibration" not in third


def test_sets_that_do_not_hold_on_test_are_a_warning(tmp_path, undrawn):
    """As where val was drawn from the training's hospital and test was not."""
    make_run(tmp_path / "run", skill=3.0)
    assert "may not hold on new data" not in refresh(tmp_path / "run").read_text()
    path = tmp_path / "run" / "predictions" / "test.npz"
    arrays = dict(np.load(path))
    arrays["labels"][:40] = 1 - arrays["labels"][:40]
    np.savez(path, **arrays)
    assert "may not hold on new data" in refresh(tmp_path / "run").read_text()


def test_text_from_a_folder_is_text(tmp_path, undrawn):
    make_run(tmp_path / "run", variant="<script>alert(1)</script>")
    page = refresh(tmp_path / "run").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"fast_dev_run": True}, "fast_dev_run, which is no result"),
        ({"partial": True}, "only a part of its splits"),
    ],
)
def test_what_is_no_result_has_no_report(tmp_path, more, message):
    make_run(tmp_path / "run", **more)
    with pytest.raises(ValueError, match=message):
        refresh(tmp_path / "run")


def test_lost_predictions_and_an_untested_run_are_named(tmp_path, undrawn):
    record = make_run(tmp_path / "run")
    (tmp_path / "run" / "predictions" / "val.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"predictions/val.npz is missing"):
        refresh(tmp_path / "run")
    del record["test"]
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="not tested"):
        refresh(tmp_path / "run")
    page = run_report.write(tmp_path / "run", record).read_text()
    assert "The test split was not evaluated" in page


def test_absent_class_is_a_dash_with_its_reason(tmp_path, undrawn):
    make_run(tmp_path / "run", "multiclass")
    path = tmp_path / "run" / "predictions" / "test.npz"
    arrays = dict(np.load(path))
    arrays["labels"][arrays["labels"] == 3] = 4
    np.savez(path, **arrays)
    record = runs.read_metrics(tmp_path / "run")
    record["test"]["auc"] = None
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="class 3 in 0 of 120"):
        page = refresh(tmp_path / "run").read_text()
    assert cells(page, "auc")["test"] == "–"
    assert "occurs in 0 of 120 samples: AUC and average precision are undefined" in html.unescape(page)


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


def test_page_opens_offline_and_its_tables_sort(refreshed, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    view, requests, errors = context.new_page(), [], []
    view.on("request", lambda request: requests.append(request.url))
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    path = refreshed["multiclass"] / "report.html"
    view.goto(path.as_uri())
    assert {address for address in requests if not address.startswith("data:")} == {path.as_uri()}
    table = view.locator("#classes ~ .scroll table.sortable").first
    heading = table.locator("th", has_text="recall")
    seen = []
    for key in ("click", "Enter"):
        heading.click() if key == "click" else heading.press("Enter")
        seen.append(
            [float(v) for v in table.locator("tbody td:nth-child(4)").evaluate_all("c => c.map(e => e.dataset.value)")]
        )
    assert seen[0] == sorted(seen[0])
    assert seen[1] == sorted(seen[1], reverse=True)
    assert len(seen[0]) == COLUMNS["multiclass"]
    assert view.evaluate("[...document.images].every(image => image.naturalWidth > 100)")
    assert view.evaluate("document.documentElement.scrollWidth") <= 1280
    assert errors == []
    context.close()
