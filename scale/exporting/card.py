"""The model card, in the format that Hugging Face's hub shows."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.data import catalog
from scale.evaluation import conformal
from scale.evaluation.bootstrap import bootstrap
from scale.evaluation.metrics import scores
from scale.inference.predictor import Predictor
from scale.utils.files import read_csv
from scale.utils.tables import markdown

if TYPE_CHECKING:
    from scale.runs.load import Run


def card(run: "Run", predictor: Predictor, files: dict[str, str]) -> str:
    """Markdown with a head of YAML: data, metrics with intervals, calibration, explanations, compute, use.

    Args:
        run: finished.
        predictor: of the run.
        files: by name, what each is.
    """
    metrics, inputs = run.metrics, predictor.inputs
    known = catalog.get(metrics["flag"]) if metrics["flag"] in catalog.FLAGS else None
    kind = "images" if len(metrics["image_shape"]) == 3 else "volumes"
    shape = " x ".join(map(str, metrics["image_shape"]))
    parts = [
        _head(metrics, inputs.title, known),
        f"# {metrics['model']['name']} on {inputs.title}\n",
        "**Research only.** Not a medical device: it is not to be used for diagnosis or treatment.\n",
        f"A {metrics['problem']} classifier of {kind} ({shape}), trained with SCALE (`scale-medvision`).\n",
        "## Classes\n",
        "\n".join(f"{number}. {name}" for number, name in enumerate(inputs.classes)) + "\n",
        "## Data\n",
        _data(run, known),
        "## Metrics\n",
        _metrics(run, predictor),
        "## Calibration\n",
        _calibration(run, predictor),
        "## Explanations\n",
        _explanations(run.folder / "explanations" / "quality.csv"),
        "## Compute\n",
        f"{metrics['model']['parameters']:,} parameters, {metrics['model']['macs'] / 1e9:.3f} G multiply-adds; "
        f"trained for {metrics['seconds']['fit']:.0f} s ({metrics['epochs']} epochs, seed {metrics['seed']}) on "
        f"{_hardware(metrics.get('hardware'))}.\n",
        "## Use\n",
        "\n".join(f"- `{name}`: {what}" for name, what in files.items())
        + '\n\n```python\nimport scale\n\nmodel = scale.load_pretrained("this folder, or its id on the hub")\n'
        'model.predict("image.png")\n```\n\nImages must come from the same kind of scanner and patients as the '
        "training data; of what looks unlike them not all is marked. Validate on data of your own before any use.\n",
    ]
    return "\n".join(parts)


def _head(metrics: dict[str, Any], title: str, known: catalog.DataSet | None) -> str:
    import yaml

    results = [
        {"type": name, "value": round(float(metrics["test"][key]), 4)}
        for key, name in (("auc", "roc_auc"), ("acc", "accuracy"))
        if metrics.get("test", {}).get(key) is not None
    ]
    task = {"type": "image-classification"}
    data = {"name": title, "type": metrics["flag"]}
    head = {
        "library_name": "scale-medvision",
        "pipeline_tag": "image-classification",
        "tags": ["medical-imaging", "research-only", metrics["problem"]],
        "license": "other",
        "license_name": known.license if known else "that of the training data",
        "model-index": [
            {"name": metrics["model"]["name"], "results": [{"task": task, "dataset": data, "metrics": results}]}
        ],
    }
    return "---\n" + yaml.safe_dump(head, sort_keys=False, allow_unicode=True) + "---\n"


def _data(run: "Run", known: catalog.DataSet | None) -> str:
    counts = ", ".join(f"{count:,} {split}" for split, count in run.metrics["samples"].items())
    lines = [f"{counts} samples."]
    if known is not None:
        lines += [f"{known.description} License: {known.license}.", *(f"- {caveat}" for caveat in known.caveats)]
    else:
        lines.append("Custom data; its licence and consent are those of whoever trained this model.")
    return "\n\n".join(lines) + "\n"


def _metrics(run: "Run", predictor: Predictor) -> str:
    found = run.predictions.get("test")
    if found is None:
        return "The run has no test split.\n"
    values = scores(found["labels"], found["probabilities"], predictor.problem)
    intervals = bootstrap(found["labels"], found["probabilities"], predictor.problem).metrics
    lines = [
        f"Test split, n = {len(found['labels'])}, with 95 % bootstrap intervals.\n",
        "| metric | value | interval |",
        "|---|---|---|",
    ]
    for name, value in values.items():
        interval = intervals.get(name)
        known = interval is not None and np.isfinite(interval.low)
        shown = f"{interval.low:.3f} to {interval.high:.3f}" if interval is not None and known else ""
        lines.append(f"| {name} | {value:.3f} | {shown} |")
    return "\n".join(lines) + "\n"


def _calibration(run: "Run", predictor: Predictor) -> str:
    fitted = predictor.uncertainty
    lines = [
        f"Temperature {fitted.temperature:.3f}, fitted on {fitted.conformal.samples} val samples, which also chose the "
        f"epoch. Conformal sets promise to hold the true class in {100 * (1 - fitted.alpha):g} % of cases like those."
    ]
    if "test" in run.predictions:
        found = run.predictions["test"]
        own = fitted.probabilities(found["probabilities"])
        measured = conformal.measure(fitted.sets(own), found["labels"])
        before, after = (scores(found["labels"], p, predictor.problem)["ece"] for p in (found["probabilities"], own))
        lines.append(
            f"On the test split they hold it in {measured.coverage:.1%}, with {measured.size:.2f} classes on average; "
            f"expected calibration error {before:.3f} before and {after:.3f} after the temperature."
        )
    return "\n\n".join(lines) + "\n"


def _explanations(table: Path) -> str:
    if not table.is_file():
        return "How far attribution maps of this model can be trusted was not measured (`python -m scale.explain`).\n"
    rows = read_csv(table)
    if not rows:
        return "Attribution maps were made, but not measured.\n"
    if "metric" not in rows[0]:
        return "Attribution maps were measured by an earlier version: run `python -m scale.explain` again.\n"
    heads = {row["metric"]: f"{row['metric']} ({row['better'] or 'described'}, n = {row['n']})" for row in rows}
    cells = {(row["method"], row["metric"]): _interval(row) for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [[f"`{method}`", *(cells.get((method, name), "") for name in heads)] for method in methods]
    return f"Mean over samples (95 % interval):\n\n{markdown(['method', *heads.values()], lines)}\n"


def _interval(row: dict[str, str]) -> str:
    mean, low, high = (float(row[name] or "nan") for name in ("mean", "low", "high"))
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _hardware(said: Any) -> str:
    if isinstance(said, dict):
        return str(said.get("name") or said.get("device") or "unknown hardware")
    return str(said or "unknown hardware")
