"""`python -m scale.tune`: search for a better configuration; each trial is a run in a process of its own."""

import argparse
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from omegaconf import DictConfig

from scale import config as configuration
from scale.config import schemas
from scale.config.help import settings, show_help
from scale.config.keys import key_of
from scale.utils.choices import nearest
from scale.utils.cli import USAGE, fail, one_line_errors

if TYPE_CHECKING:
    from scale.tuning.space import Space
    from scale.tuning.study import Study

log = logging.getLogger("scale")
BEST, LOG = "best", "tune.log"
HELP = """\
usage: python -m scale.tune [study=DIR] [tune=SPACE] [n_trials=20] [n_jobs=1] [group=option ...] [key=value ...]

Searches for a better configuration. Each trial is a run in a process of its own, which never looks at the test split;
all train with the same seed. Trial 0 is the configuration itself, as python -m scale.train takes it. The objective is
the val AUC of the kept epoch: of the one with the lowest val loss, as in any run (callbacks.checkpoint.monitor=auc: the
highest val AUC). A trial that has not reached the median of that figure at the same epoch is stopped early. The same
command resumes a study that was stopped; given in several terminals, it shares the work.

  python -m scale.tune data=breastmnist n_trials=40
  python -m scale.tune data=breastmnist tune=optimizer n_jobs=2        two trials at a time
  python -m scale.tune data=breastmnist --config-dir DIR tune=mine     the space in DIR/tune/mine.yaml
  python -m scale.train --config-dir DIR experiment=best              the best trial of the study in DIR, with its test

Spaces (tune=...): {spaces}
Keys of the study, with their defaults:
{settings}
All other groups and keys: python -m scale.train --help
"""
PLACES = "every trial has a folder of its own in that of the study, which study=... names"
REFUSED = {
    "hydra": PLACES,
    "resume": PLACES,
    "rerun": "a tuning repeats no run",
    "sweep": "a tuning is no sweep",
    "test": "a tuning leaves the test split alone; the best trial is tested when it is trained again",
}
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What a command line asks for.

    Attributes:
        settings: the study's, as in `conf/tune.yaml`.
        overrides: of every trial.
        config: of a training without the values of a trial.
        space: by override key.
        config_dir: further folder of options.
        folder: of the study.
    """

    settings: DictConfig
    overrides: list[str]
    config: DictConfig
    space: "Space"
    config_dir: str | None
    folder: Path


def plan(overrides: Sequence[str], *, config_dir: str | None = None) -> Plan:
    """Reads and checks a command line.

    Args:
        overrides: of `conf/tune.yaml` and of `conf/train.yaml`.
        config_dir: further folder of options.

    Raises:
        ConfigError: with every problem that was found.
    """
    from scale.config import experiment
    from scale.tuning import space as spaces

    problems: list[str] = []
    space: Space | None = None
    own, others = _split(overrides, problems)
    settings = _collect(problems, lambda: configuration.compose(own, name="tune", config_dir=config_dir))
    config = _collect(problems, lambda: configuration.compose(others, config_dir=config_dir))
    if settings is not None:
        problems += [
            f"{key}={settings[key]}: give at least {least}"
            for key, least in (("n_trials", 1), ("n_jobs", 1), ("startup_trials", 1), ("warmup_epochs", 0))
            if settings[key] < least
        ]
        space = _collect(problems, lambda: spaces.read(configuration.plain(settings.tune)))
    if problems or settings is None or config is None or space is None:
        raise configuration.ConfigError(problems)
    _collect(problems, lambda: spaces.check(space, spaces.without(others, space), config_dir=config_dir))
    if problems:
        raise configuration.ConfigError(problems)
    folder = settings.study
    if folder is None:
        chosen = experiment.choices(others, config_dir=config_dir)
        name = next((o.partition("=")[2] for o in reversed(own) if o.startswith("tune=")), "default")
        folder = Path("studies", _data_name(str(chosen["data"]), config), str(chosen["model"]), name)
    return Plan(settings, others, config, space, config_dir, Path(folder).expanduser())


def tune(plan: Plan) -> "Study":
    """Runs the trials that a study lacks, and writes its table, figures and best experiment.

    Raises:
        ValueError: the folder holds another study; the configuration cannot be written as a file; every trial fails.
        KeyboardInterrupt: it was asked to stop; the same command resumes.
    """
    from scale.runs import machine
    from scale.training.logs import logging_to
    from scale.tuning import report as study_report
    from scale.tuning import space as spaces
    from scale.tuning.study import Study
    from scale.tuning.trials import Runner

    settings = plan.settings
    first = spaces.default(plan.space, plan.config, plan.overrides, config_dir=plan.config_dir)
    study = Study(
        plan.folder,
        space=plan.space,
        config=configuration.plain(plan.config),
        content=_content(plan.config),
        first=first,
        storage=settings.storage,
        prune=settings.prune,
        startup_trials=settings.startup_trials,
        warmup_epochs=settings.warmup_epochs,
        sampler_seed=settings.sampler_seed,
    )
    with logging_to(plan.folder / LOG):
        log.info("study folder: %s (%d of %d trials begun)", plan.folder, study.begun(), settings.n_trials)
        if first is None:
            log.warning("the configuration itself lies outside the space, and is not tried")
        runner = Runner(
            study,
            overrides=[*_flags(plan), *spaces.without(plan.overrides, plan.space)],
            n_trials=settings.n_trials,
            n_jobs=settings.n_jobs,
            environment=lambda slot: machine.share(
                slot, slots=settings.n_jobs, visible=machine.visible_gpus(), trainer=plan.config.trainer
            ),
            better=lambda: write_best(plan, study),
        )
        try:
            runner.run()
        except KeyboardInterrupt:
            log.warning("stopped; the running trials are saved. The same command resumes them")
            raise
        finally:
            try:
                write_best(plan, study)
            finally:
                study_report.write(study)
        log.info("%s", summary(plan, study))
    return study


def _data_name(option: str, config: DictConfig) -> str:
    """The option of `data`, with the name of the file or folder where it reads one: `npz-lesions`."""
    path = config.data.get("path")
    return option if path is None else f"{option}-{Path(path).expanduser().resolve().name.removesuffix('.npz')}"


def _content(config: DictConfig) -> str | None:
    """The hash of the images and labels that a path names; None of data sets whose keys say what they are."""
    from scale.tasks.build import content_of

    return None if config.data.get("path") is None else content_of(config)


def write_best(plan: Plan, study: "Study") -> None:
    """Writes the best trial as an experiment of the study's folder."""
    from scale.config import experiment
    from scale.tuning import space as spaces
    from scale.tuning.study import OBJECTIVE

    best = study.best()
    if best is None:
        return
    values = [spaces.assignment(key, value) for key, value in best.params.items()]
    found = f"Trial {best.number} of {study.begun()}: {OBJECTIVE} {best.value:.4f}. Test was not looked at."
    text = f"{_command(plan)}\n{found}"
    overrides = [*spaces.without(plan.overrides, plan.space), *values]
    experiment.write(plan.folder, BEST, overrides, config_dir=plan.config_dir, comment=text)


def summary(plan: Plan, study: "Study") -> str:
    """What was found, in a few lines."""
    from scale.tuning.study import OBJECTIVE

    trials = study.trials()
    counts = Counter(trial.state.name.lower() for trial in trials)
    lines = [
        f"objective: {OBJECTIVE}",
        f"{len(trials)} trials: " + ", ".join(f"{count} {state}" for state, count in counts.items()),
    ]
    best = study.best()
    first = next(
        (t for t in trials if t.number == 0 and "fixed_params" in t.system_attrs and t.state.name == "COMPLETE"), None
    )
    if first is not None:
        lines.append(f"the configuration itself (trial 0): val AUC {first.value:.4f}")
    if best is not None:
        lines.append(
            f"best (trial {best.number}): val AUC {best.value:.4f}, the highest of many and so a little too high"
        )
        lines.append(f"  {' '.join(f'{key}={value}' for key, value in best.params.items())}")
        lines.append(f"to train and test it: {_command(plan)}")
    return "\n".join(lines)


def _command(plan: Plan) -> str:
    return f"python -m scale.train --config-dir {shlex.quote(str(plan.folder))} experiment={BEST}"


def _flags(plan: Plan) -> list[str]:
    return [f"--config-dir={Path(plan.config_dir).resolve()}"] if plan.config_dir else []


def _split(overrides: Sequence[str], problems: list[str]) -> tuple[list[str], list[str]]:
    """The overrides of the study and those of its trials; what is neither becomes a problem."""
    own, of_trials = ({field.name for field in fields(schemas.SCHEMAS[name])} for name in ("tune", "train"))
    groups = {path.name for path in configuration.directory().iterdir() if path.is_dir()}
    known = sorted(own | of_trials | groups)
    found: tuple[list[str], list[str]] = ([], [])
    for override in overrides:
        root = key_of(override).partition(".")[0].partition("@")[0]
        if root in REFUSED:
            problems.append(f"{override}: {REFUSED[root]}")
        elif override.startswith("~"):
            problems.append(f"{override}: the best trial's file cannot remove a key; set it to null")
        elif root not in known and not override.startswith("+"):
            problems.append(f"{override}: there is no such key{nearest(root, known)}")
        else:
            found[root not in own].append(override)
    return found


def _collect(problems: list[str], call: Callable[[], T]) -> T | None:
    try:
        return call()
    except configuration.ConfigError as error:
        problems.extend(error.problems)
        return None


def main() -> None:
    """The command."""
    parts = {
        "spaces": lambda: " ".join(configuration.options("tune")),
        "settings": lambda: settings("tune", first="study"),
    }
    if show_help(sys.argv[1:], HELP, **parts):
        return
    parser = argparse.ArgumentParser(prog="python -m scale.tune", add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args()
    try:
        import optuna  # noqa: F401 - it is an extra
    except ModuleNotFoundError as error:
        fail(f"tuning needs {error.name}: pip install 'scale-medvision[tune]'")
    try:
        with one_line_errors():
            study = tune(plan(given.overrides, config_dir=given.config_dir))
    except configuration.ConfigError as error:
        fail(error, status=USAGE)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if any("error" in trial.user_attrs for trial in study.trials()) else 0)


if __name__ == "__main__":
    main()
