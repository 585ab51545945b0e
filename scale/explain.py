"""`python -m scale.explain`: attribution maps of a run's predictions, and how far each can be trusted."""

import itertools
import logging
import shutil
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from scale import config as configuration
from scale.config.help import show_help, wrapped
from scale.utils.cli import one_line_errors

FOLDER, PAGE, LOG = "explanations", "explanations.html", "explain.log"

log = logging.getLogger("scale")
HELP = """\
usage: python -m scale.explain run=DIR [attribution=default|all|fast|full] [key=value ...]

Draws attribution maps of a run's predictions, measures how far each can be trusted, and writes DIR/explanations/. The
page can be used as soon as the maps are drawn; the metrics follow, the expensive ones last.

  python -m scale.explain run=DIR                                  a few methods, on the most telling samples: minutes
  python -m scale.explain run=DIR attribution=all                  every method that fits, every metric
  python -m scale.explain run=DIR attribution=fast                 the maps alone
  python -m scale.explain run=DIR indices=[3,17] target=truth      samples and class of your choice
  python -m scale.explain run=DIR attribution.methods=[integrated_gradients,rollout] attribution.batch_size=4
  python -m scale.explain run=DIR compare=[DIR2,DIR3]              runs of other seeds: their maps, how far they agree
  python -m scale.explain --cfg job                                shows every key with its value

A call replaces what an earlier one wrote; what has metrics that are not made again is kept as explanations-1 (2, ...).

Methods: {methods}
"""


def explain(config: DictConfig) -> Path:
    """Explains a run.

    Args:
        config: composed by `scale.config.compose(..., name="explain")`.

    Returns:
        The folder that was written, `explanations` in the run's. It replaces the one of an earlier call as a whole; one
        with metrics that are not made again is kept as `explanations-1` (or 2, ...).

    Raises:
        FileNotFoundError: there is no such run, or it has not finished.
        FileExistsError: the folder holds something else.
        ValueError: a method, sample, class or run that does not exist or does not fit.
        FloatingPointError: a map is not finite.
        MemoryError: a single sample does not fit.
    """
    from scale.runs.sets import folder_of
    from scale.training.logs import logging_to
    from scale.utils.files import replacing_folder
    from scale.utils.progress import Progress

    if config.run is None:
        raise ValueError("give run=<folder of a finished run>")
    config.run = folder_of(config.run, config.set)
    config.compare = [folder_of(place, config.set) for place in config.compare]
    target = Path(config.run).expanduser() / FOLDER
    if target.exists() and not (target / PAGE).exists():
        raise FileExistsError(f"{target} was not written by this command: move it away, as it would be replaced")
    from scale.attribution.report import compared
    from scale.attribution.report import job as jobs
    from scale.attribution.report import write as writing

    job = jobs.prepare(config)
    with Progress(job.cost() + compared.cost(job), pace=job.pace()) as progress:
        with replacing_folder(target) as folder, logging_to(folder / LOG):
            OmegaConf.save(config, folder / "config.yaml", resolve=True)
            samples = writing.write_samples(job, folder, PAGE, progress)
            is_lost = _loses_metrics(config, target)
            kept = _set_aside(target)
        if len(job.measured):
            with logging_to(target / LOG):
                log.info("the maps can be looked at: %s", target / PAGE)
                writing.write_metrics(job, target, PAGE, samples, progress)
    if kept is not None and not is_lost:
        shutil.rmtree(kept)
    elif kept is not None:
        log.info("the metrics of an earlier call are kept in %s", kept)
    return target


def _set_aside(target: Path) -> Path | None:
    """Moves a folder that has metrics to a free name beside it, so that they are not lost if this call is cut off."""
    if not _has_metrics(target):
        return None
    kept = next(place for n in itertools.count(1) if not (place := target.with_name(f"{FOLDER}-{n}")).exists())
    target.rename(kept)
    return kept


def _has_metrics(target: Path) -> bool:
    table = target / "quality.csv"
    return table.is_file() and len(table.read_text().splitlines()) > 1


def _loses_metrics(config: DictConfig, target: Path) -> bool:
    """Whether a folder has metrics, made with other settings than the present ones."""
    from scale.runs.reading import load_yaml

    record = target / "config.yaml"
    if not _has_metrics(target) or not record.is_file():
        return False
    before = OmegaConf.to_container(load_yaml(record))
    now = configuration.plain(config)
    keys = ("attribution", "split", "checkpoint", "groups")
    return not isinstance(before, dict) or any(before.get(key) != now.get(key) for key in keys)


def _job(config: DictConfig) -> None:
    logging.basicConfig(format="%(message)s", force=True)  # Hydra's own format is for its jobs
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    with one_line_errors():
        print(f"explanations: {explain(config)}")


def main() -> None:
    """The command."""
    from scale.attribution.catalog import METHODS
    from scale.attribution.checks import of_explain

    if show_help(sys.argv[1:], HELP, methods=lambda: wrapped(METHODS, indent=9)):
        return
    sys.argv[1:] = configuration.options_first(sys.argv[1:])
    configuration.check_command_line(sys.argv[1:], name="explain", check=of_explain)
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="explain")(_job)()


if __name__ == "__main__":
    main()
