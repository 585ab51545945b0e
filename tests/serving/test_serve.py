"""The web application: answers, limits, and that nothing stays."""

import base64
import io
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import scale
from scale.inference.maps import Explainer
from scale.inference.predictor import Predictor
from scale.readers import read
from scale.serve import check_host
from scale.serving.upload import read_upload
from tests.readers.dicom_files import write_series

pytest.importorskip("fastapi", reason="the extra serve is not installed")


def client_of(run, folder, **options):
    from fastapi.testclient import TestClient

    from scale.serving.app import create_app

    predictor = Predictor.of_runs([scale.load_run(run)])
    explainer = Explainer(predictor, "saliency", folder)
    settings = {"max_bytes": 300_000, "max_values": 1_000_000, **options}
    return TestClient(create_app(predictor, explainer=explainer, **settings)), predictor


def entry_of(answer):
    """What the page that was answered shows."""
    assert answer.status_code == 200, answer.text
    text = answer.text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    (entry,) = json.loads(text)["samples"]
    return entry


def unpacked(text):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


def png(values) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def post(client, name, content, path="/predict"):
    return client.post(path, files={"file": (name, content)})


@pytest.fixture
def client(run2d, tmp_path):
    return client_of(run2d, tmp_path)


def test_an_image(client, tmp_path, monkeypatch):
    client, predictor = client
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    answer = post(client, "a.png", png(image))
    assert answer.status_code == 200
    found, own = answer.json(), predictor.predict(image).iloc[0]
    assert found["predicted"] == own["predicted"]
    assert all(
        found["probabilities"][name] == pytest.approx(own[f"p_{name}"], abs=1e-6) for name in predictor.inputs.classes
    )
    assert found["unlike_training"] == own["unlike_training"]
    assert found["unlike_by"] == "Mahalanobis distance of the features"
    assert (found["unlike_score"] > found["unlike_threshold"]) == found["unlike_training"]
    assert "Research only" in found["notice"]
    assert answer.headers["cache-control"] == "no-store"
    page = post(client, "a.png", png(image), "/explain")
    assert page.status_code == 200
    assert "saliency" in page.text
    assert not list(tmp_path.glob("scale-serve-*"))  # nothing is kept


def test_the_page_and_what_the_api_says_of_itself(client):
    client, predictor = client
    text = client.get("/").text
    assert "Research only" in text
    assert "{{" not in text
    assert 'Number("300000")' in text  # a file that is too large is not even sent
    assert client.get("/model").json()["classes"] == list(predictor.inputs.classes)
    assert {"/predict", "/explain", "/model"} <= set(client.get("/openapi.json").json()["paths"])


def test_what_cannot_be_used_is_answered_with_the_reason(client):
    client, _ = client
    image = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for name, content, words in (
        ("cut.png", image[:200], "truncated"),
        ("empty.png", b"", "0 bytes"),
        ("text.png", b"no image", "not an image"),
        ("a.exe", b"MZ", "unknown kind"),
        ("../../etc/x.npy", b"\x93NUMPY", "damaged"),
        ("z.zip", b"PK", "damaged or locked zip"),
        ("big.png", png(np.zeros((2000, 2000), np.uint8)), "limit of 1,000,000"),
    ):
        answer = post(client, name, content)
        assert answer.status_code == 422, name
        assert words in answer.json()["detail"], name
    assert client.post("/api/predict", content=iter([b"no length"])).status_code == 411
    large = post(client, "large.png", bytes(400_000))
    assert large.status_code == 413
    assert "300,000 bytes" in large.json()["detail"]


def test_volumes_and_zipped_series(run3d, tmp_path):
    client, predictor = client_of(run3d, tmp_path)
    volume = np.random.default_rng(0).integers(0, 256, (28, 28, 28), np.uint8)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii.gz")
    answer = post(client, "a.nii.gz", (tmp_path / "a.nii.gz").read_bytes())
    own = predictor.predict(tmp_path / "a.nii.gz").iloc[0]
    assert answer.json()["predicted"] == own["predicted"]
    write_series(tmp_path / "s", volume.astype(np.int16), names=np.random.default_rng(1).permutation(28))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "s").iterdir()):
            archive.write(path, f"../folder/{path.name}")
    answer = post(client, "s.zip", packed.getvalue())
    assert answer.status_code == 200, answer.text
    own = predictor.predict(Path(tmp_path / "s")).iloc[0]
    assert answer.json()["probabilities"]["class 1"] == pytest.approx(own["p_class 1"], abs=1e-6)
    assert [name for name in own["set"].split(";") if name] == answer.json()["conformal_set"]
    shown = [
        entry_of(post(client, name, content, "/explain"))
        for name, content in (("a.nii.gz", (tmp_path / "a.nii.gz").read_bytes()), ("s.zip", packed.getvalue()))
    ]
    for entry, seen in zip(shown, ("a.nii.gz", "s"), strict=True):
        assert entry["shape"] == [28, 28, 28]  # the viewer's three planes
        image, _ = predictor.see(read(tmp_path / seen))
        assert (unpacked(entry["image"]) == image.ravel()).all()
        maps, _ = Explainer(predictor, "saliency", tmp_path).values(image[None])
        levels = unpacked(entry["maps"][0]["data"]).astype(int) - 127
        assert np.abs(levels / 127 - (maps[0] / entry["maps"][0]["limit"]).clip(-1, 1).ravel()).max() < 0.01
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(5_000_000))
    assert "bytes than allowed" in post(client, "bomb.zip", bomb.getvalue()).json()["detail"]


def test_it_listens_on_this_machine_only_unless_asked():
    check_host("127.0.0.1", public=False)
    check_host("::1", public=False)
    check_host("0.0.0.0", public=True)
    for host in ("0.0.0.0", "192.168.1.5", "example.org"):
        with pytest.raises(ValueError, match="public=true"):
            check_host(host, public=False)


def test_the_map_on_the_page_is_of_the_file_on_the_page(client):
    """A file that is dropped while the map of another is made."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is driven with playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium to open the page with")
    text = client[0].get("/").text
    answer = post(client[0], "a.png", png(np.zeros((28, 28, 3), np.uint8))).json()
    waiting = {}

    def server(route):
        name = re.search(r'filename="(\w+)', route.request.post_data).group(1)
        waiting[route.request.url.rpartition("/")[2], name] = route

    def wait(*key):
        for _ in range(200):
            if key in waiting:
                return waiting.pop(key)
            view.wait_for_timeout(20)
        raise AssertionError(f"{key} was not asked for")

    def drop(name):
        view.set_input_files("#file", {"name": f"{name}.png", "mimeType": "image/png", "buffer": b"x"})

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox", "--disable-gpu"])
        view = browser.new_page()
        view.route("http://page/", lambda route: route.fulfill(body=text, content_type="text/html"))
        view.route("http://page/predict", server)
        view.route("http://page/explain", server)
        view.goto("http://page/")
        drop("one")
        wait("predict", "one").fulfill(json={**answer, "predicted": "of one"})
        late = wait("explain", "one")
        drop("two")
        wait("predict", "two").fulfill(json={**answer, "predicted": "of two"})
        own = wait("explain", "two")
        late.fulfill(body="map of one", content_type="text/html")
        view.wait_for_timeout(200)
        assert view.inner_text("#predicted") == "Predicted: of two"
        assert view.get_attribute("#viewer", "srcdoc") is None
        assert view.inner_text("#status") == "two.png: making the map"
        own.fulfill(body="map of two", content_type="text/html")
        view.wait_for_selector("#viewer:not([hidden])")
        assert view.get_attribute("#viewer", "srcdoc") == "map of two"
        browser.close()


@pytest.mark.parametrize("name", ["1.2.840.113619.{:d}", "CT.1.2.840.{:09d}", "IM{:d}"])
def test_no_slice_of_a_zipped_series_is_lost_by_its_name(name, run3d, tmp_path):
    """What stands behind a name's last dot is no ending; the volume was cut off without a word."""
    volume = np.random.default_rng(0).integers(0, 256, (8, 8, 8)).astype(np.int16)
    write_series(tmp_path / "s", volume, names=range(8))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, path in enumerate(sorted((tmp_path / "s").iterdir())):
            archive.write(path, name.format(9_999_997 + number))
        archive.writestr("DICOMDIR", bytes(128) + b"DICM")
    found = read_upload("s.zip", packed.getvalue(), max_bytes=10**6, max_values=10**6)
    assert np.array_equal(found.values, read(tmp_path / "s").values)
