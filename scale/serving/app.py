"""The web application: a page to drop a file on, and a JSON API. Loopback only unless asked; nothing is kept."""

import tempfile
import threading
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, File, HTTPException, Request, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel

from scale.attribution.report.page import write_page
from scale.inference.maps import Explainer
from scale.inference.predictor import Predictor
from scale.inference.uncertainty import CALLED
from scale.readers import UnreadableError
from scale.serving.upload import read_upload

NOTICE = "Research only. Not a medical device: not for diagnosis or treatment."
_FORM = 1 << 16  # bytes of an upload that are not the file


class Prediction(BaseModel):
    """The answer to an upload."""

    file: str
    predicted: str
    probabilities: dict[str, float]
    conformal_set: list[str]
    alpha: float
    entropy_bits: float
    unlike_training: bool
    unlike_score: float
    unlike_threshold: float
    unlike_by: str
    notice: str = NOTICE


def create_app(predictor: Predictor, *, explainer: Explainer | None, max_bytes: int, max_values: int) -> FastAPI:
    """The application.

    Args:
        predictor: that answers.
        explainer: makes the maps that the page shows; None: no maps.
        max_bytes: of an upload.
        max_values: pixels or voxels of an upload.
    """
    app = FastAPI(title=f"SCALE: {predictor.inputs.title}", description=NOTICE, docs_url=None, redoc_url=None)
    lock = threading.Lock()  # one network, one pass at a time

    @app.middleware("http")
    async def _limit(request: Request, call_next: Any) -> Any:
        length = request.headers.get("content-length", "")
        if request.method == "POST" and not length.isdigit():
            return JSONResponse({"detail": "the request does not say how long it is"}, status_code=411)
        if request.method == "POST" and int(length) > max_bytes + _FORM:
            return JSONResponse(
                {"detail": f"the file is larger than the limit of {max_bytes:,} bytes"}, status_code=413
            )
        answer = await call_next(request)
        answer.headers["Cache-Control"] = "no-store"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    def seen(file: UploadFile) -> np.ndarray:
        content = file.file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise HTTPException(413, f"the file is larger than the limit of {max_bytes:,} bytes")
        name = file.filename or "file"
        try:
            picture = read_upload(name, content, max_values=max_values, max_bytes=4 * max_bytes)
            return predictor.see(picture)[0]
        except UnreadableError as error:
            raise HTTPException(422, f"{name} {error}") from error

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def _page() -> str:
        text = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        how = predictor.inputs.preprocessing
        kinds = (
            "a PNG, JPEG, TIFF, BMP, WebP or DICOM image"
            if how.spatial_dims == 2
            else "a NIfTI volume or a zipped DICOM series"
        )
        import html

        values = {
            "title": predictor.inputs.title,
            "notice": NOTICE,
            "kinds": kinds,
            "limit": f"{max_bytes >> 20} MB",
            "bytes": str(max_bytes),
            "explains": "true" if explainer is not None else "false",
        }
        for key, value in values.items():
            text = text.replace(f"{{{{{key}}}}}", html.escape(value))
        return text

    @app.get("/model")
    def _model() -> dict[str, Any]:
        """What the model takes and answers."""
        return {
            "title": predictor.inputs.title,
            "problem": predictor.problem,
            "classes": list(predictor.inputs.classes),
            "preprocessing": predictor.inputs.preprocessing.record(),
            "uncertainty": predictor.uncertainty.record(),
            "explains": None if explainer is None else explainer.method,
            "notice": NOTICE,
        }

    @app.post("/predict")
    def _predict(file: UploadFile = File()) -> Prediction:  # noqa: B008
        """Predicts one file: 413 where it is too large, 422 with the reason where it cannot be used."""
        images = seen(file)[None]
        with lock:
            row = predictor.rows(images)[0]
        names = predictor.inputs.classes
        return Prediction(
            file=file.filename or "file",
            predicted=row["predicted"],
            probabilities={name: row[f"p_{name}"] for name in names},
            conformal_set=[name for name in row["set"].split(";") if name],
            alpha=predictor.uncertainty.alpha,
            entropy_bits=row["entropy"],
            unlike_training=row["unlike_training"],
            unlike_score=row["unlike_score"],
            unlike_threshold=predictor.uncertainty.unlike.threshold,
            unlike_by=CALLED[predictor.uncertainty.unlike.score],
        )

    @app.post("/explain", response_class=HTMLResponse)
    def _explain(file: UploadFile = File()) -> str:  # noqa: B008
        """The viewer's page of one file, with the map of the predicted class."""
        if explainer is None:
            raise HTTPException(404, "this server makes no maps: start it with explain=METHOD")
        images = seen(file)[None]
        with lock:
            row = predictor.rows(images)[0]
            maps, targets = explainer.values(images)
        name = predictor.inputs.classes[int(targets[0])]
        sample = explainer.shown(file.filename or "file", images[0], maps[0], name, row)
        with tempfile.TemporaryDirectory(prefix="scale-serve-") as place:
            page = Path(place) / "page.html"
            write_page(
                page,
                samples=[sample],
                quality_rows=[],
                header=explainer.header,
                title="Predictions",
                orientation=predictor.inputs.preprocessing.orientation,
            )
            return page.read_text(encoding="utf-8")

    return app
