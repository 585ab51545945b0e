"""`python -m scale.evaluate`: recompute a run's figures from its checkpoint, average runs, score an official file."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from scale import config as configuration
from scale.config import checks
from scale.config.help import show_help
from scale.utils.cli import one_line_errors

if TYPE_CHECKING:
    pass

TOLERANCE = 1e-6  # between figures recomputed on the same kind of device
CLOSE = 1e-4  # between probabilities: batches of another size sum in another order
HELP = """\
usage: python -m scale.evaluate run=DIR | "runs=[DIR,DIR]" | "predictions='FILE'" [data.root=DIR]
                                [accelerator=auto|cpu|gpu]

  python -m scale.evaluate run=runs/breastmnist/scale/seed0-...       recomputes val and test from the best checkpoint
                                                                    and compares them with metrics.json
  python -m scale.evaluate run=DIR evaluation.tta=true              also averaged over the mirrorings that keep the
                                                                    label; added to the run's record, apart
  python -m scale.evaluate run=DIR report=true [evaluation.calibrate=temperature]
                                                                    intervals, figures and report.html anew from the
                                                                    saved predictions, with no network
  python -m scale.evaluate run=DIR corruptions=medmnist_c [output=DIR]
                                                                    predicts corrupted test images: MedMNIST-C's
                                                                    corruptions of the data set, for volumes this
                                                                    project's; errors by severity, table and figure
  python -m scale.evaluate "runs=[DIR,DIR,DIR]" [output=DIR]        averages the saved probabilities of runs on the same
                                                                    data and writes them to a folder of their own
  python -m scale.evaluate "predictions='breastmnist_test_[AUC]0.913_[ACC]0.846@1.csv'"
                                                                    scores a file in the official format; data set, size
                                                                    and split come from its name
"""


def evaluate_run(
    folder: str | Path,
    *,
    device: str = "cpu",
    data: dict[str, Any] | None = None,
    tta: bool = False,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Recomputes val and test figures from the best checkpoint.

    Args:
        folder: of a finished run.
        device: where to compute.
        data: changes to the run's `data` node, such as another `root`.
        tta: also with test-time augmentation. A run that was trained without it gets these figures added to its record,
            `val_tta` and `test_tta`, if its plain figures are reproduced.
        allow: modules of yours that the run's configuration may name.

    Returns:
        `val` and, if the run has it, `test` (`val_tta` and `test_tta`), each with its scores; `difference`: the largest
        absolute difference to `metrics.json` or to the saved predictions; `problems`: a line for all that contradicts
        the record; `sums`: whether it has sums of its files; `added`: whether figures were added to it.

    Raises:
        ValueError: the record has no figures to compare with, or names code that is not allowed.
    """
    import numpy as np

    from scale.evaluation.metrics import scores
    from scale.runs import check_whole, verify
    from scale.runs.folder import add_averaged
    from scale.runs.load import load_run
    from scale.runs.predict import predict
    from scale.tasks.outputs import Averaged, Outputs
    from scale.training.tta import predict as predict_mirrored

    run = load_run(folder, data=data, allow=allow)
    if not _splits(run.metrics):
        raise ValueError(f"{folder}: its metrics.json has no figures of val or test, so there is nothing to agree with")
    if tta:
        check_whole(run.metrics, folder)
    run.datamodule.setup()
    again = lambda: {split: Outputs(**predict(run, split, device=device)) for split in _splits(run.metrics)}  # noqa: E731
    outputs = again()
    averaged = predict_mirrored(run.datamodule, outputs, again) if tta else {}
    found: dict[str, Any] = {}
    differences = [0.0]
    problems = [text for text in verify.verify(folder) if text != verify.NO_SUMS]  # older runs: recomputed all the same
    predicted: dict[str, Outputs | Averaged] = {**outputs, **averaged}
    for split, output in predicted.items():
        saved = run.predictions.get(split, {})
        wrong = verify.wrong_predictions(saved, run.metrics) if saved else None
        seen = saved["index"] if saved and not wrong else slice(None)  # all, or a fast_dev_run's
        if not isinstance(seen, slice) and seen.max() >= len(output.labels):
            problems.append(f"{split}: predictions of {seen.max() + 1} samples, but the split has {len(output.labels)}")
            seen = slice(None)
        elif saved and not wrong:
            if not np.array_equal(saved["labels"], output.labels[seen]):
                problems.append(f"{split}: the saved labels are not those of the data")
            gap = np.abs(saved["probabilities"] - output.probabilities[seen]).max()
            if not gap <= CLOSE:
                problems.append(f"{split}: the network's probabilities differ from the saved ones by up to {gap:.1e}")
        found[split] = scores(output.labels[seen], output.probabilities[seen], run.metrics["problem"])
        recorded = run.metrics.get(split, {})
        if split in run.metrics:
            others = verify.different(recorded, found[split], tolerance=TOLERANCE)
            problems += [f"{split}/{name}: {text}" for name, text in others.items()]
        known = [(found[split].get(name), value) for name, value in recorded.items() if isinstance(value, float)]
        differences += [abs(now - value) for now, value in known if now is not None]
    new = {split: output for split, output in averaged.items() if split not in run.metrics}
    added = bool(new) and not problems
    if added:
        add_averaged(run.folder, new, found)
    return {
        **found,
        "difference": max(differences),
        "problems": problems,
        "sums": verify.SUMS in run.metrics,
        "added": added,
    }


def score_file(path: str | Path, *, data: DictConfig) -> dict[str, Any]:
    """Official `auc` and `acc` of a file in the official format; data set, size and split come from its name.

    `intervals` has those of both, and DeLong's of the AUC; `positive` names the positive class of a binary set.
    """
    from scale.data import catalog, store
    from scale.evaluation import official

    name = official.parse_name(path)
    splits = store.load(
        name.flag,
        size=name.size,
        splits=(name.split,),
        **{key: value for key, value in configuration.plain(data).items() if key != "path"},
    )
    labels = splits[name.split].labels
    info = catalog.get(name.flag)
    positive = info.labels[1] if info.problem == "binary" else ""
    return {**official.score(path, labels), "intervals": official.intervals(path, labels), "positive": positive}


def _job(config: DictConfig) -> None:
    logging.basicConfig(format="%(message)s", force=True)  # Hydra's own format is for its jobs
    with one_line_errors():
        sys.exit(_run(config))


def _run(config: DictConfig) -> int:
    """Prints a table; the exit status is 1 where a run's record cannot be reproduced."""
    if sum(given is not None for given in (config.run, config.runs, config.predictions)) != 1:
        raise ValueError(
            'give one of run=<folder of a finished run>, "runs=[<folder>,<folder>]", "predictions=\'<official csv>\'"'
        )
    chosen = {key: config.evaluation[key] for key in ("calibrate", "threshold", "coverage")}
    _check(config, chosen)
    if config.output is not None and config.runs is None and config.corruptions is None:
        raise ValueError("output=<folder> is for runs=[...] and corruptions=... only: nothing else is written")
    if config.run is None:
        ignored = {"evaluation.tta=true": config.evaluation.tta, "accelerator": config.accelerator != "auto"}
        for name in (name for name, given in ignored.items() if given):
            raise ValueError(f"{name} is for run=... only: all else is computed from saved predictions")
    if config.runs is not None:
        return _average(list(config.runs), config.output)
    if config.predictions is not None:
        return _score(config)
    if config.report:
        from scale.reporting.refresh import refresh

        print(f"written: {refresh(config.run, **chosen)}")
        return 0
    from scale.reporting.refresh import positive_class
    from scale.runs import read_metrics
    from scale.runs.predict import find_device

    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    if config.corruptions is not None:
        return _corrupted(config, changes)
    tta = bool(config.evaluation.tta)
    result = evaluate_run(
        config.run, device=find_device(config.accelerator), data=changes, tta=tta, allow=list(config.allow)
    )
    print(f"{'':8}{'AUC':>9}{'ACC':>7}")
    for split in ("val", "test", "val_tta", "test_tta"):
        if split in result:
            print(f"{split:10}{result[split]['auc']:7.3f}{result[split]['acc']:7.3f}")
    if named := positive_class(read_metrics(config.run)):
        print(named)
    if result["added"]:
        print("added to the run's record: val_tta and test_tta in metrics.json, predictions/{val,test}_tta.npz")
    if not result["problems"]:
        whole = "checkpoint and predictions are the files that the run wrote"
        print(
            f"verified: agrees with metrics.json (largest difference {result['difference']:.1e}); "
            f"{whole if result['sums'] else 'made by earlier code, it has no sums of its files'}"
        )
        return 0
    for problem in result["problems"]:
        print(f"  - {problem}")
    print(
        f"NOT VERIFIED: differs from metrics.json by up to {result['difference']:.1e}: files that were changed, "
        "or other data, code, versions or device?"
    )
    return 1


def _score(config: DictConfig) -> int:
    """Prints a prediction file's scores; the exit status is 1 where its name says others."""
    from scale.evaluation import official

    found = score_file(config.predictions, data=config.data)
    print(f"AUC {found['auc']:.3f}  ACC {found['acc']:.3f}")
    limits = {name: f"{low:.3f}–{high:.3f}" for name, (low, high) in found["intervals"].items()}
    print(f"95 % intervals: AUC {limits['auc']}, ACC {limits['acc']} (bootstrap); AUC {limits['auc_delong']} (DeLong)")
    wrong = official.disagreement(config.predictions, found)
    if wrong:
        print(f"DIFFERS from the file's name: {wrong}")
    return int(wrong is not None)


def _check(config: DictConfig, chosen: Mapping[str, Any]) -> None:
    """Raises ValueError where a choice is none, or is for report=true."""
    wrong = list(checks.of_evaluation(config.evaluation))
    if wrong:
        raise ValueError("; ".join(wrong))
    if config.corruptions is not None and (config.run is None or config.report or config.evaluation.tta):
        raise ValueError(
            f"corruptions={config.corruptions} is for run=<folder> alone: leave report and evaluation.tta out"
        )
    if config.report and (config.run is None or config.evaluation.tta):
        raise ValueError("report=true is for run=<folder> alone, and reads saved predictions: leave evaluation.tta out")
    given = [f"evaluation.{key}={value}" for key, value in chosen.items() if value is not None]
    if given and not config.report:
        raise ValueError(f"{given[0]} is for report=true, which writes the run's report anew: add that")


def _splits(scores: Mapping[str, Any]) -> list[str]:
    """Those that a run was evaluated on; `test=false` leaves test out."""
    return [split for split in ("val", "test") if split in scores]


def _corrupted(config: DictConfig, changes: dict[str, Any]) -> int:
    from scale.evaluation import robustness as measured
    from scale.reporting import robustness
    from scale.runs.predict import find_device
    from scale.utils.cli import warn

    results, place = robustness.measure(
        config.run,
        name=config.corruptions,
        device=find_device(config.accelerator),
        data=changes,
        output=config.output,
        progress=lambda corruption: warn(f"{corruption} done"),
    )
    print(measured.table(results))
    print(f"written to {place}")
    return 0


def _average(folders: list[str], output: str | None) -> int:
    from scale.reporting.refresh import positive_class
    from scale.runs import ensemble

    record, place = ensemble.evaluate(folders, output=output)
    members = [
        f"{run['model']}{' ' * bool(run['variant'])}{run['variant']} seed {run['seed']}" for run in record["runs"]
    ]
    print(f"mean of {len(members)} runs on {record['flag']}, size {record['size']}: {', '.join(members)}")
    print(ensemble.table(record))
    if named := positive_class(record):
        print(named)
    print(f"written to {place}")
    return 0


def main() -> None:
    """The command."""
    if show_help(sys.argv[1:], HELP):
        return
    configuration.check_command_line(sys.argv[1:], name="evaluate")
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="evaluate")(_job)()


if __name__ == "__main__":
    main()
