"""`python -m scale.explain`: attribution maps of a run's predictions, and how far each can be trusted."""

import itertools
import logging
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from scale import config as configuration
from scale.config.help import show_help, wrapped
from scale.utils.cli import one_line_errors

FOLDER, PAGE = "explanations", "explanations.html"

log = logging.getLogger("scale")
HELP = """\
usage: python -m scale.explain run=DIR [attribution=default|fast|full] [key=value ...]

Draws maps of what a run's answers rest on, measures how far each can be trusted, and writes DIR/explanations/.

  python -m scale.explain run=DIR                                  every method that fits, on the most telling samples
  python -m scale.explain run=DIR attribution=fast                 the maps alone
  python -m scale.explain run=DIR indices=[3,17] target=truth      samples and class of one's own choice
  python -m scale.explain run=DIR attribution.methods=[integrated_gradients,rollout] attribution.batch_size=4
  python -m scale.explain run=DIR compare=[DIR2,DIR3]              how far the maps of other seeds agree
  python -m scale.explain --cfg job                                shows every key with its value

A call replaces what an earlier one wrote; what has measures that are not made again is kept as explanations-1 (2, ...).

Methods: {methods}
"""


def explain(config: DictConfig) -> Path:
    """Explains a run.

    Args:
        config: composed by `scale.config.compose(..., name="explain")`.

    Returns:
        The folder that was written, `explanations` in the run's. It replaces the one of an earlier call as a whole; one
        with measures that are not made again is kept as `explanations-1` (or 2, ...).

    Raises:
        FileNotFoundError: there is no such run, or it has not finished.
        FileExistsError: the folder holds something else.
        ValueError: a method, sample, class or run that does not exist or does not fit.
        FloatingPointError: a map is not finite.
        MemoryError: a single sample does not fit.
    """
    from scale.training.logs import logging_to
    from scale.utils.files import replacing_folder
    from scale.utils.progress import Progress

    if config.run is None:
        raise ValueError("give run=<folder of a finished run>")
    target = Path(config.run).expanduser() / FOLDER
    if target.exists() and not (target / PAGE).exists():
        raise FileExistsError(f"{target} was not written by this command: move it away, as it would be replaced")
    from scale.attribution.report import job as jobs
    from scale.attribution.report import write as writing

    job = jobs.prepare(config)
    with replacing_folder(target) as folder, logging_to(folder / "explain.log"), Progress(job.cost()) as progress:
        OmegaConf.save(config, folder / "config.yaml", resolve=True)
        writing.write(job, folder, PAGE, progress)
        if _loses_measures(config, target):
            kept = next(place for n in itertools.count(1) if not (place := target.with_name(f"{FOLDER}-{n}")).exists())
            target.rename(kept)
            log.info("the measures of an earlier call are kept in %s", kept)
    return target


def _loses_measures(config: DictConfig, target: Path) -> bool:
    """Whether a folder has measures, made with other settings than the present ones."""
    table, record = target / "quality.csv", target / "config.yaml"
    if not table.is_file() or not record.is_file() or len(table.read_text().splitlines()) < 2:
        return False
    before = OmegaConf.load(record)
    assert isinstance(before, DictConfig)
    return any(before.get(key) != config.get(key) for key in ("attribution", "split", "checkpoint", "groups"))


def _job(config: DictConfig) -> None:
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    with one_line_errors():
        print(f"explanations: {explain(config)}")


def main() -> None:
    """The command."""
    from scale.attribution.catalog import METHODS
    from scale.attribution.checks import of_explain

    if show_help(sys.argv[1:], HELP, methods=lambda: wrapped(METHODS, indent=9)):
        return
    configuration.check_command_line(sys.argv[1:], name="explain", check=of_explain)
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="explain")(_job)()


if __name__ == "__main__":
    main()
