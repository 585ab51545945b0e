"""`python -m scale.evaluate`: recompute a run's figures from its checkpoint, average runs, score an official file."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from scale import config as configuration
from scale.config.help import show_help
from scale.utils.cli import one_line_errors

if TYPE_CHECKING:
    pass

TOLERANCE = 1e-6  # between figures recomputed on the same kind of device
HELP = """\
usage: python -m scale.evaluate run=DIR | "runs=[DIR,DIR]" | "predictions='FILE'" [data.root=DIR]
                                [accelerator=auto|cpu|gpu]

  python -m scale.evaluate run=runs/breastmnist/scale/seed0-...       recomputes val and test from the best checkpoint
                                                                    and compares them with metrics.json
  python -m scale.evaluate run=DIR evaluation.tta=true              also averaged over the mirrorings that keep the
                                                                    label; added to the run's record, apart
  python -m scale.evaluate "runs=[DIR,DIR,DIR]" [output=DIR]        averages the saved probabilities of runs on the same
                                                                    data and writes them to a folder of their own
  python -m scale.evaluate "predictions='breastmnist_test_[AUC]0.913_[ACC]0.846@1.csv'"
                                                                    scores a file in the official format; data set, size
                                                                    and split come from its name
"""


def evaluate_run(
    folder: str | Path, *, device: str = "cpu", data: dict[str, Any] | None = None, tta: bool = False
) -> dict[str, Any]:
    """Recomputes val and test figures from the best checkpoint.

    Args:
        folder: of a finished run.
        device: where to compute.
        data: changes to the run's `data` node, such as another `root`.
        tta: also with test-time augmentation. A run that was trained without it gets these figures added to its record,
            `val_tta` and `test_tta`, if its plain figures are reproduced.

    Returns:
        `val` and, if the run has it, `test` (`val_tta` and `test_tta`), each with its scores; `difference`: the largest
        absolute difference to `metrics.json`; `added`: whether figures were added to the record.
    """
    from scale.evaluation.metrics import scores
    from scale.runs.folder import add_averaged, check_whole
    from scale.runs.load import load_run
    from scale.runs.predict import predict
    from scale.tasks.outputs import Averaged, Outputs
    from scale.training.tta import predict as predict_mirrored

    run = load_run(folder, data=data)
    if tta:
        check_whole(run.metrics, folder)
    run.datamodule.setup()
    again = lambda: {split: Outputs(**predict(run, split, device=device)) for split in _splits(run.metrics)}  # noqa: E731
    outputs = again()
    averaged = predict_mirrored(run.datamodule, outputs, again) if tta else {}
    found: dict[str, Any] = {}
    differences = [0.0]
    predicted: dict[str, Outputs | Averaged] = {**outputs, **averaged}
    for split, output in predicted.items():
        seen = run.predictions[split]["index"] if split in run.predictions else slice(None)  # all, or a fast_dev_run's
        found[split] = scores(output.labels[seen], output.probabilities[seen], run.metrics["problem"])
        recorded = run.metrics.get(split, {})
        differences += [abs(found[split][name] - value) for name, value in recorded.items() if value is not None]
    new = {split: output for split, output in averaged.items() if split not in run.metrics}
    added = bool(new) and max(differences) <= TOLERANCE
    if added:
        add_averaged(run.folder, new, found)
    return {**found, "difference": max(differences), "added": added}


def score_file(path: str | Path, *, data: DictConfig) -> dict[str, float]:
    """Official `auc` and `acc` of a file in the official format; data set, size and split come from its name."""
    from scale.data import store
    from scale.evaluation import official

    name = official.parse_name(path)
    splits = store.load(
        name.flag,
        size=name.size,
        splits=(name.split,),
        **{key: value for key, value in configuration.plain(data).items() if key != "path"},
    )
    return official.score(path, splits[name.split].labels)


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
    if config.output is not None and config.runs is None:
        raise ValueError("output=<folder> is for runs=[...] only: nothing else is written")
    if config.run is None:
        ignored = {"evaluation.tta=true": config.evaluation.tta, "accelerator": config.accelerator != "auto"}
        for name in (name for name, given in ignored.items() if given):
            raise ValueError(f"{name} is for run=... only: all else is computed from saved predictions")
    if config.runs is not None:
        return _average(list(config.runs), config.output)
    if config.predictions is not None:
        found = score_file(config.predictions, data=config.data)
        print(f"AUC {found['auc']:.3f}  ACC {found['acc']:.3f}")
        return 0
    from scale.runs.predict import find_device

    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    tta = bool(config.evaluation.tta)
    result = evaluate_run(config.run, device=find_device(config.accelerator), data=changes, tta=tta)
    print(f"{'':8}{'AUC':>9}{'ACC':>7}")
    for split in ("val", "test", "val_tta", "test_tta"):
        if split in result:
            print(f"{split:10}{result[split]['auc']:7.3f}{result[split]['acc']:7.3f}")
    if result["added"]:
        print("added to the run's record: val_tta and test_tta in metrics.json, predictions/{val,test}_tta.npz")
    if result["difference"] <= TOLERANCE:
        print(f"agrees with metrics.json (largest difference {result['difference']:.1e})")
        return 0
    print(f"DIFFERS from metrics.json by up to {result['difference']:.1e}: other data, code, versions or device?")
    return 1


def _splits(scores: Mapping[str, Any]) -> list[str]:
    """Those that a run was evaluated on; `test=false` leaves test out."""
    return [split for split in ("val", "test") if split in scores]


def _average(folders: list[str], output: str | None) -> int:
    from scale.runs import ensemble

    record, place = ensemble.evaluate(folders, output=output)
    members = [
        f"{run['model']}{' ' * bool(run['variant'])}{run['variant']} seed {run['seed']}" for run in record["runs"]
    ]
    print(f"mean of {len(members)} runs on {record['flag']}, size {record['size']}: {', '.join(members)}")
    print(ensemble.table(record))
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
