"""`python -m scale.evaluate`: recompute a run's figures from its checkpoint, average runs, score an official file."""

import logging
import sys
from typing import Any

import hydra
from omegaconf import DictConfig

from scale import config as configuration
from scale.config import checks
from scale.config.help import show_help
from scale.utils.cli import one_line_errors

HELP = """\
usage: python -m scale.evaluate run=DIR | "runs=[DIR,DIR]" | "predictions='FILE'" [data.root=DIR]
                                [accelerator=auto|cpu|gpu]

  python -m scale.evaluate run=runs/breastmnist/scale/seed0-...       recomputes val and test from the best checkpoint
                                                                    and compares them with metrics.json
  python -m scale.evaluate run=DIR evaluation.tta=true              also averaged over the flips that keep the
                                                                    label; added to the run's record, apart
  python -m scale.evaluate run=DIR report=true [evaluation.calibrate=temperature]
                                                                    intervals, figures and report.html anew from the
                                                                    saved predictions, with no network
  python -m scale.evaluate run=DIR heads=true                       each head of a SCALE network, the mean of its
                                                                    streams, and convex weights of the heads' logits
                                                                    fitted on val; changes nothing
  python -m scale.evaluate "runs=[DIR,DIR,DIR]" heads=true          the same of several runs on the same data: means,
                                                                    and the prediction's AUC against each, paired
  python -m scale.evaluate run=DIR set=NAME                         a data set of a joint run; also with all above
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


def _job(config: DictConfig) -> None:
    logging.basicConfig(format="%(message)s", force=True)  # Hydra's own format is for its jobs
    with one_line_errors():
        sys.exit(_run(config))


def _run(config: DictConfig) -> int:
    """Prints a table; the exit status is 1 where a run's record cannot be reproduced."""
    _check(config)
    from scale.runs import read_metrics
    from scale.runs.sets import folder_of

    config.run = config.run and folder_of(config.run, config.set)
    for folder in config.runs or [config.run] * (config.run is not None):
        read_metrics(folder)  # says that there is no such run before the heavy imports
    if config.runs is not None and not config.heads:
        return _average(list(config.runs), config.output)
    if config.predictions is not None:
        return _score(config)
    if config.report:
        from scale.reporting.refresh import refresh

        print(f"written: {refresh(config.run, **_settings(config))}")
        return 0
    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    if config.heads:
        return _heads(config, changes)
    return _recompute(config, changes) if config.corruptions is None else _corrupted(config, changes)


def _recompute(config: DictConfig, changes: dict[str, Any]) -> int:
    from scale.reporting.refresh import positive_class
    from scale.runs import read_metrics
    from scale.runs.predict import find_device
    from scale.runs.recompute import evaluate_run

    device, tta, allow = find_device(config.accelerator), bool(config.evaluation.tta), list(config.allow)
    result = evaluate_run(config.run, device=device, data=changes, tta=tta, allow=allow)
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


def _heads(config: DictConfig, changes: dict[str, Any]) -> int:
    from scale.runs import heads
    from scale.runs.load import load_run
    from scale.runs.predict import find_device

    device = find_device(config.accelerator)
    runs = [load_run(folder, data=changes, allow=list(config.allow)) for folder in config.runs or [config.run]]
    for run in runs:
        run.datamodule.setup()
    if config.runs is None:
        print(heads.table(heads.evaluate(runs[0], device=device)))
    else:
        print(heads.comparison_table(heads.compare(runs, device=device), runs=len(runs)))
    return 0


def _score(config: DictConfig) -> int:
    """Prints a prediction file's scores; the exit status is 1 where its name says others."""
    from scale.evaluation import official
    from scale.runs.recompute import score_file

    found = score_file(config.predictions, data=configuration.plain(config.data))
    print(f"AUC {found['auc']:.3f}  ACC {found['acc']:.3f}")
    limits = {name: f"{low:.3f}–{high:.3f}" for name, (low, high) in found["intervals"].items()}
    print(f"95 % intervals: AUC {limits['auc']}, ACC {limits['acc']} (bootstrap); AUC {limits['auc_delong']} (DeLong)")
    wrong = official.disagreement(config.predictions, found)
    if wrong:
        print(f"DIFFERS from the file's name: {wrong}")
    return int(wrong is not None)


def _check(config: DictConfig) -> None:
    """Raises ValueError where a choice is none, or would be ignored."""
    if sum(given is not None for given in (config.run, config.runs, config.predictions)) != 1:
        raise ValueError(
            'give one of run=<folder of a finished run>, "runs=[<folder>,<folder>]", "predictions=\'<official csv>\'"'
        )
    wrong = list(checks.of_evaluation(config.evaluation))
    if wrong:
        raise ValueError("; ".join(wrong))
    if config.set is not None and config.run is None:
        raise ValueError(f"set={config.set} is for run=<folder of a joint run> only")
    if config.output is not None and config.runs is None and config.corruptions is None:
        raise ValueError("output=<folder> is for runs=[...] and corruptions=... only: nothing else is written")
    if config.run is None:
        ignored = {"evaluation.tta=true": config.evaluation.tta}
        ignored["accelerator"] = config.accelerator != "auto" and not config.heads
        for name in (name for name, given in ignored.items() if given):
            raise ValueError(f"{name} is for run=... only: all else is computed from saved predictions")
    if config.corruptions is not None and (config.run is None or config.report or config.evaluation.tta):
        raise ValueError(
            f"corruptions={config.corruptions} is for run=<folder> alone: leave report and evaluation.tta out"
        )
    other = config.predictions or config.report or config.corruptions or config.evaluation.tta or config.output
    if config.heads and other:
        raise ValueError(
            'heads=true is for run=<folder> or "runs=[<folder>,<folder>]" alone: leave report, corruptions, output and '
            "evaluation.tta out"
        )
    if config.heads and config.runs is not None and len(config.runs) < 2:
        raise ValueError('heads=true with "runs=[...]" compares several runs: give two or more, or run=<folder>')
    if config.report and (config.run is None or config.evaluation.tta):
        raise ValueError("report=true is for run=<folder> alone, and reads saved predictions: leave evaluation.tta out")
    given = [f"evaluation.{key}={value}" for key, value in _settings(config).items() if value is not None]
    if given and not config.report:
        raise ValueError(f"{given[0]} is for report=true, which writes the run's report anew: add that")


def _settings(config: DictConfig) -> dict[str, Any]:
    """What report=true takes of `evaluation`."""
    return {key: config.evaluation[key] for key in ("calibrate", "threshold", "coverage")}


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
        allow=config.allow,
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
