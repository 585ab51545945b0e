"""The root configuration of each command: its keys, their types and defaults."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore


@dataclass
class Budget:
    """Length of a training: epochs = samples / size of the train split, within the two bounds."""

    samples: int = 40_000
    min_epochs: int = 10
    max_epochs: int = 100


@dataclass
class Evaluation:
    """What is done beside the plain evaluation of a split."""

    tta: bool = False
    calibrate: str = "none"  # or temperature, found on val
    threshold: str = "youden"  # rule for the thresholds beside the official 0.5: youden or f1, found on val
    coverage: float = 0.9  # of the conformal sets, whose size is found on val


@dataclass
class EvaluateAgain:
    """The same for a finished run; what is null is as in its training."""

    tta: bool = False
    calibrate: str | None = None
    threshold: str | None = None
    coverage: float | None = None


@dataclass
class Sweep:
    """What a sweep (`-m`) does where its folder holds the same sweep already: it resumes, or stops with an error."""

    resume: bool = True


@dataclass
class TrainConfig:
    """Root of `conf/train.yaml`."""

    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    paths: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    test: bool = True
    report: bool = True  # figures and report.html
    compile: bool = False
    threads: int | None = None
    evaluation: Evaluation = field(default_factory=Evaluation)
    variant: str = ""  # what the run is called where it differs from its model's default recipe
    data_dims: int | None = None  # 2 or 3, where a model or an experiment is for images or for volumes only
    matmul_precision: str = "highest"
    init_from: str | None = None  # whose weights to begin with
    freeze: str = "none"  # what of them to keep as it is
    resume: str | None = None
    rerun: str | None = None
    allow_changed_code: bool = False
    allow: list[str] = field(default_factory=list)  # code that a run's record may name beside our own
    sweep: Sweep = field(default_factory=Sweep)


@dataclass
class EvaluateConfig:
    """Root of `conf/evaluate.yaml`."""

    run: str | None = None
    set: str | None = None  # of a joint run: its data set
    runs: list[str] | None = None
    predictions: str | None = None
    output: str | None = None
    corruptions: str | None = None
    heads: bool = False
    evaluation: EvaluateAgain = field(default_factory=EvaluateAgain)
    report: bool = False
    data: dict[str, Any] = field(default_factory=dict)
    accelerator: str = "auto"
    allow: list[str] = field(default_factory=list)


@dataclass
class TuneConfig:
    """Root of `conf/tune.yaml`."""

    tune: dict[str, Any] = field(default_factory=dict)
    study: str | None = None
    storage: str = "sqlite"
    n_trials: int = 20
    n_jobs: int = 1
    prune: bool = True
    startup_trials: int = 8
    warmup_epochs: int = 5
    sampler_seed: int = 0


@dataclass
class Shown:
    """How many samples of each class are shown."""

    right: int = 1
    wrong: int = 1
    uncertain: int = 1


@dataclass
class Quality:
    """How the maps are measured."""

    samples: int = 24
    metrics: list[str] | None = None
    steps: int = 12
    baseline: str = "blur"
    perturbed: int = 4
    perturbations: int = 8


@dataclass
class Attribution:
    """How the maps are made."""

    methods: list[str] | None = None
    batch_size: int = 16
    baseline: str = "blur"
    seed: int = 0
    steps: int = 32
    view_steps: int = 4
    noise_samples: int = 16
    noise: float = 0.15
    window: float = 0.2857
    quality: Quality = field(default_factory=Quality)


@dataclass
class ExplainConfig:
    """Root of `conf/explain.yaml`."""

    run: str | None = None
    set: str | None = None  # of a joint run: its data set
    split: str = "test"
    checkpoint: str = "best"
    samples: Shown = field(default_factory=Shown)
    indices: list[int] | None = None
    target: Any = "predicted"
    compare: list[str] = field(default_factory=list)
    groups: bool = True
    attribution: Attribution = field(default_factory=Attribution)
    data: dict[str, Any] = field(default_factory=dict)
    accelerator: str = "auto"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)


@dataclass
class PrepareConfig:
    """Root of `conf/prepare.yaml`."""

    source: str | None = None
    labels: str | None = None
    output: str | None = None
    problem: str | None = None
    order: list[Any] | None = None
    symmetry: str = "upright"
    size: int | None = None
    channels: int | None = None
    orientation: str = "SPL"
    spacing: Any = None  # millimetres, or `isotropic`
    intensity: str | None = None
    percentiles: list[float] = field(default_factory=lambda: [0.5, 99.5])
    window: Any = None  # a name, or two numbers
    fit: str = "pad"
    fractions: list[float] = field(default_factory=lambda: [0.7, 0.1, 0.2])
    folds: int | None = None
    seed: int = 0
    duplicates: str = "skip"
    workers: int | None = None


@dataclass
class PredictConfig:
    """Root of `conf/predict.yaml`."""

    run: str | None = None
    set: str | None = None  # of a joint run: its data set
    runs: list[str] | None = None
    input: str | None = None
    source: str | None = None
    split: str | None = None
    output: str | None = None
    alpha: float = 0.1
    calibrate: bool = True
    explain: str | None = None
    shard: int = 0
    shards: int = 1
    batch_size: int = 64
    workers: int | None = None
    accelerator: str = "auto"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)


@dataclass
class ExportConfig:
    """Root of `conf/export.yaml`."""

    run: str | None = None
    format: str = "safetensors"
    output: str | None = None
    alpha: float = 0.1
    data: dict[str, Any] = field(default_factory=dict)
    allow: list[str] = field(default_factory=list)


@dataclass
class ServeConfig:
    """Root of `conf/serve.yaml`."""

    run: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    public: bool = False
    explain: str | None = None
    alpha: float = 0.1
    max_megabytes: int = 64
    max_megapixels: int = 128
    accelerator: str = "auto"
    allow: list[str] = field(default_factory=list)


SCHEMAS = {
    "prepare": PrepareConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "serve": ServeConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "explain": ExplainConfig,
    "tune": TuneConfig,
}


def register() -> None:
    """Makes the schemas known to Hydra under the names that `conf/` refers to."""
    for name, schema in SCHEMAS.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)
