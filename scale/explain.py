"""`python -m scale.explain`: maps of what a run's answers rest on, and how far each can be trusted."""

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from scale import config as configuration
from scale import schemas

if TYPE_CHECKING:
    import torch

    from scale.attribution.measuring import Explainer, Subjects
    from scale.attribution.page import Sample
    from scale.attribution.selection import Choice
    from scale.data.store import Split
    from scale.progress import Progress
    from scale.runs import Run

log = logging.getLogger("scale")
FOLDER, PAGE = "explanations", "explanations.html"
BEST = ("scale_relevance", "integrated_gradients")  # drawn large where it is among the methods


@dataclass(frozen=True)
class Job:
    """All that is known before anything is computed."""

    config: DictConfig
    run: "Run"
    others: dict[str, "Run"]
    explainer: "Explainer"
    split: "Split"
    methods: list[str]
    measures: list[str]
    choices: list["Choice"]
    measured: np.ndarray
    device: str

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """What the run's network says of the split."""
        return self.run.predictions[self.config.split]

    def images(self, rows: Sequence[int] | np.ndarray) -> "torch.Tensor":
        """Normalised samples (B, C, *S) on the device, by their rows in the predictions."""
        import torch

        module = self.run.datamodule
        places = self.predictions["index"][np.asarray(rows, dtype=int)]
        raw = torch.from_numpy(self.split.images.gather(places))
        raw = raw.movedim(-1, 1) if raw.ndim == module.info.spatial_dims + 2 else raw.unsqueeze(1)
        return module.prepare({"image": raw.to(self.device)})["image"]

    def masks(self, rows: Sequence[int] | np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """The lesions (B, *S) of the classes (B,), bool; None where the data set has none.

        Where one sample may have lesions of several labels, that of label k has the value k + 1.
        """
        if self.split.masks is None:
            return None
        found = self.split.masks.gather(self.predictions["index"][np.asarray(rows, dtype=int)])
        if self.run.metrics["problem"] == "multilabel":
            return found == (targets + 1).reshape(-1, *(1,) * (found.ndim - 1))
        return found > 0


def explain(config: DictConfig) -> Path:
    """Explains a run.

    Args:
        config: composed by `scale.config.compose(..., name="explain")`.

    Returns:
        The folder that was written, `explanations` in the run's. It replaces the one of an earlier call as a whole.

    Raises:
        FileNotFoundError: there is no such run, or it has not finished.
        FileExistsError: the folder holds something else.
        ValueError: a method, sample, class or run that does not exist or does not fit.
        FloatingPointError: a map is not finite.
        MemoryError: a single sample does not fit.
    """
    from scale.data.files import replacing_folder
    from scale.logs import logging_to
    from scale.progress import Progress

    if config.run is None:
        raise ValueError("give run=<folder of a finished run>")
    target = Path(config.run).expanduser() / FOLDER
    if target.exists() and not (target / PAGE).exists():
        raise FileExistsError(f"{target} was not written by this command: move it away, as it would be replaced")
    job = _prepare(config)
    with replacing_folder(target) as folder, logging_to(folder / "explain.log"), Progress(_cost(job)) as progress:
        OmegaConf.save(config, folder / "config.yaml", resolve=True)
        _write(job, folder, progress)
    return target


def _prepare(config: DictConfig) -> Job:
    """Reads the run, and finds all mistakes that can be found before anything runs."""
    import torch

    from scale.attribution import measuring, methods, selection
    from scale.attribution.catalog import CONTROLS
    from scale.evaluate import find_device, predict
    from scale.runs import load_run

    settings = OmegaConf.to_object(config.attribution)
    assert isinstance(settings, schemas.Attribution)
    measures = measuring.check_measures(settings.quality.measures) if settings.quality.samples else []
    device = find_device(config.accelerator)
    if config.threads:
        torch.set_num_threads(config.threads)
    changes = {key: value for key, value in configuration.plain(config.data).items() if value is not None}
    run = load_run(config.run, checkpoint=config.checkpoint, data=changes)
    net, problem = run.model.net, run.model.problem
    chosen = methods.applicable(net) if settings.methods is None else list(dict.fromkeys(settings.methods))
    problems = {name: methods.obstacle(net, name) for name in chosen}
    for name, reason in problems.items():
        if reason:
            fitting = ", ".join(methods.applicable(net))
            raise ValueError(f"attribution.methods: {name} does not apply: {reason}; what does: {fitting}")
    if measures:  # controls run beside every method
        chosen += [name for name in CONTROLS if name not in chosen]
    if isinstance(config.target, int) and not 0 <= config.target < problem.columns:
        raise ValueError(f"target={config.target} does not exist: the classes are 0 to {problem.columns - 1}")
    others = {str(Path(folder).name): load_run(folder, checkpoint=config.checkpoint) for folder in config.compare}
    for name, other in others.items():
        if any(other.metrics[key] != run.metrics[key] for key in ("flag", "image_shape", "problem", "num_classes")):
            raise ValueError(f"compare: {name} is a run on other data than {run.folder.name}")
        unfit = [method for method in chosen if methods.obstacle(other.model.net, method)]
        if unfit:
            raise ValueError(f"compare: {unfit[0]} does not apply to {name}, whose network is another one")
        other.model.to(device)
    run.model.to(device)
    run.datamodule.setup()
    if config.split not in run.predictions or config.checkpoint != "best":
        run.predictions[config.split] = predict(run, config.split, device=device)
    found = run.predictions[config.split]
    if config.indices is not None:
        choices = selection.given(
            config.indices, found["index"], found["labels"], found["probabilities"], target=config.target
        )
    else:
        choices = selection.telling(found["labels"], found["probabilities"], target=config.target, **config.samples)
    if not choices:
        raise ValueError("no sample is chosen: give indices=[...], or samples.right, wrong or uncertain above 0")
    count = settings.quality.samples if measures else 0
    return Job(
        config=config,
        run=run,
        others=others,
        explainer=measuring.Explainer(net, problem, settings),
        split=run.datamodule.splits[config.split],
        methods=chosen,
        measures=measures,
        choices=choices,
        measured=selection.spread(found["labels"], count, seed=settings.seed),
        device=device,
    )


def _cost(job: Job) -> float:
    """Passes through the network, about."""
    from scale.attribution import measuring

    shown = sum(job.explainer.cost(method) for method in job.methods) * len(job.choices)
    settings = job.explainer.settings.quality
    count, others = len(job.measured), len(job.others)
    quality = measuring.cost(job.explainer, job.methods, settings, count=count, others=others) if count else 0
    return shown + quality + (len(job.predictions["index"]) if job.config.groups else 0)


def _write(job: Job, folder: Path, progress: "Progress") -> None:
    from scale.attribution import page, record

    samples = _samples(job, folder, progress)
    rows = _quality(job, folder, progress) if len(job.measured) else []
    if job.config.groups:
        _groups(job, folder, progress)
    metrics = job.run.metrics
    header = {
        "data": job.run.datamodule.info.title,
        "split": job.config.split,
        "model": metrics["model"]["name"],
        "seed": str(metrics["seed"]),
        "test AUC": f"{metrics['test']['auc']:.3f}",
        "run": job.run.folder.name,
    }
    if len(job.measured):
        header["measured on"] = f"{len(job.measured)} samples"
    record.write_table(folder / "quality.csv", record.QUALITY, rows)
    page.write_page(folder / PAGE, samples=samples, quality_rows=rows, header=header)


def _samples(job: Job, folder: Path, progress: "Progress") -> list["Sample"]:
    """Maps, figures and arrays of the samples that are shown."""
    import torch

    from scale.attribution import attention_maps, page, record
    from scale.attribution.catalog import METHODS
    from scale.attribution.figures import sample_title
    from scale.attribution.selection import predicted, truths

    found, info = job.predictions, job.run.datamodule.info
    rows = [choice.row for choice in job.choices]
    images, targets = job.images(rows), torch.tensor([choice.target for choice in job.choices], device=job.device)
    places = found["index"][rows]
    maps: dict[str, np.ndarray] = {}
    for method in job.methods:
        progress.begin(f"maps of {len(rows)} samples: {method}")
        try:
            maps[method] = job.explainer.maps(method, images, targets, step=progress.step).numpy()
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, of samples {', '.join(map(str, places))}") from error
    gate = attention_maps.stream_gate(job.run.model.net, images)
    masks = job.masks(rows, truths(found["labels"])[rows])
    raw = job.split.images.gather(places)
    guess, truth = predicted(found["probabilities"]), truths(found["labels"])
    best = next((name for name in BEST if name in maps), job.methods[0])
    samples, table = [], []
    for number, choice in enumerate(job.choices):
        progress.begin(f"figures of sample {places[number]}")
        chance = found["probabilities"][choice.row]
        names = [info.labels[k] for k in (truth[choice.row], guess[choice.row], choice.target)]
        if found["labels"].shape[1] > 1:  # the label that is explained, instead of one of many
            said = (found["labels"][choice.row, choice.target] != 0, chance[choice.target] > 0.5)
            names[:2] = [names[2] if yes else f"no {names[2]}" for yes in said]
            shown = float(chance[choice.target] if said[1] else 1 - chance[choice.target])
        else:
            shown = float(chance[guess[choice.row]])
        facts = {"sample": str(places[number]), "chosen as": choice.why, "explained": names[2]}
        row = {"index": places[number], "chosen": choice.why, "explained": choice.target}
        row |= {"truth": names[0], "prediction": names[1], "probability": shown}
        if gate is not None:
            planar, volumetric = (float(value) for value in gate[number])
            facts["stream gate"] = f"planar {planar:.2f}, volumetric {volumetric:.2f}"
            row |= {"gate_planar": planar, "gate_volumetric": volumetric}
        table.append(row)
        sample = page.Sample(
            title=sample_title(names[0], names[1], shown),
            image=record.picture_of(raw[number], dims=info.spatial_dims),
            maps={method: values[number].sum(axis=0) for method, values in maps.items()},
            mask=None if masks is None else masks[number],
            facts=facts,
            signed={method: METHODS[method].signed for method in maps},
        )
        name = f"{places[number]:06d}_{choice.why}"
        arrays = {"target": choice.target, "labels": found["labels"][choice.row], "probabilities": chance}
        own = {method: values[number] for method, values in maps.items()}
        record.write_sample(folder, name, sample, own, **arrays)
        record.draw_sample(folder, name, sample, best=best)
        samples.append(sample)
    record.write_table(folder / "samples.csv", list(dict.fromkeys(key for row in table for key in row)), table)
    return samples


def _quality(job: Job, folder: Path, progress: "Progress") -> list[dict[str, Any]]:
    """Measures all methods; returns the rows of `quality.csv`."""
    from scale.attribution import measuring, quality, record

    seed = job.explainer.settings.seed

    def step(method: str, amount: float) -> None:
        progress.begin(f"measuring {method} on {len(job.measured)} samples")
        progress.step(amount)

    values, maps = measuring.measure(
        job.explainer, _subjects(job), job.methods, job.measures, job.explainer.settings.quality, step=step
    )
    record.write_table(folder / "against_random.csv", record.AGAINST, measuring.against(values, "random", seed=seed))
    places = job.predictions["index"][job.measured]
    long = [
        {"method": method, "measure": name, "index": index, "value": value}
        for method, measured in values.items()
        for name, numbers in measured.items()
        for index, value in zip(places, numbers, strict=True)
    ]
    record.write_table(folder / "quality_values.csv", ("method", "measure", "index", "value"), long)
    matrix = quality.agreement(maps, absolute=True)
    alike = [{"method": first, **dict(zip(maps, line, strict=True))} for first, line in zip(maps, matrix, strict=True)]
    record.write_table(folder / "agreement.csv", ("method", *maps), alike)
    return measuring.rows(values, seed=seed)


def _subjects(job: Job) -> "Subjects":
    import torch

    from scale.attribution.measuring import Subjects
    from scale.attribution.selection import predicted, truths

    found, rows = job.predictions, job.measured
    truth = truths(found["labels"])[rows]
    explained = {"predicted": predicted(found["probabilities"])[rows], "truth": truth}
    target = explained.get(job.config.target, np.full(len(rows), job.config.target))
    masks = job.masks(rows, truth)
    return Subjects(
        job.images(rows),
        torch.as_tensor(target.astype(np.int64), device=job.device),
        torch.as_tensor(truth.astype(np.int64), device=job.device),
        None if masks is None else torch.from_numpy(masks),
        {name: other.model.net for name, other in job.others.items()},
    )


def _groups(job: Job, folder: Path, progress: "Progress") -> None:
    """What the network looks at in each class, over the whole split."""
    from scale.attribution import group_figures, groups
    from scale.models.scale_net import ScaleNet

    net, found = job.run.model.net, job.predictions
    if not isinstance(net, ScaleNet):
        log.info("no group analysis: %s has no scales and no streams", type(net).__name__)
        return
    progress.begin(f"groups: {len(found['index'])} samples")
    size = job.explainer.settings.batch_size

    def batches() -> Any:
        for start in range(0, len(found["index"]), size):
            rows = np.arange(start, min(start + size, len(found["index"])))
            yield job.images(rows)
            progress.step(len(rows))

    observed = groups.observe(net, batches())
    info = job.run.datamodule.info
    rows = groups.group_rows(observed, found["labels"], list(info.labels), data=info.flag)
    groups.write_rows(folder / "groups.csv", rows)
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in group_figures.draw(rows).items():
        figure.savefig(folder / "figures" / f"groups_{name}.png")


def _job(config: DictConfig) -> None:
    from scale.usage import USER_ERRORS

    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        print(f"explanations: {explain(config)}")
    except (*USER_ERRORS, MemoryError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"scale: {error}", file=sys.stderr)
        sys.exit(1)


def main() -> None:
    """The command."""
    from scale.usage import EXPLAIN, show_help

    if show_help(sys.argv[1:], EXPLAIN):
        return
    configuration.check_command_line(sys.argv[1:], name="explain")
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="explain")(_job)()


if __name__ == "__main__":
    main()
