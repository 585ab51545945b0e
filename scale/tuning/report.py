"""What a tuning study leaves to read: a table of its trials, and Optuna's figures."""

import warnings
from typing import TYPE_CHECKING

from scale.tuning.study import OBJECTIVE
from scale.utils.files import replacing, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scale.tuning.study import Study

TABLE, FIGURES = "trials.csv", "figures"
COLUMN = OBJECTIVE.replace(" ", "_").lower()  # of the table


def write(study: "Study") -> None:
    """Writes `trials.csv` and, where there is something to draw, `figures/{history,importances}.png`."""
    columns = ["trial", "state", COLUMN, "epochs", *study.space, "error"]
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            COLUMN: None if trial.value is None else round(trial.value, 6),
            "epochs": len(trial.intermediate_values),
            **{key: trial.params.get(key) for key in study.space},
            "error": trial.user_attrs.get("error"),
        }
        for trial in study.trials()
    ]
    with study.alone():
        write_csv(study.folder / TABLE, columns, rows)
    _draw(study)


def _draw(study: "Study") -> None:
    """Optuna's own figures by its matplotlib backend, which needs no further package."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from optuna.trial import TrialState
    from optuna.visualization import matplotlib as draw

    values = {trial.value for trial in study.trials() if trial.state == TrialState.COMPLETE}
    drawn: dict[str, Axes] = {}
    (study.folder / FIGURES).mkdir(exist_ok=True)
    with plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the backend calls itself experimental
        if values:
            drawn["history"] = axes = draw.plot_optimization_history(study.record, target_name=OBJECTIVE)
            axes.set(title=f"{len(study.trials())} trials")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(["a trial", "best so far"], loc="best")
        if len(values) > 1:  # Equal values have no variance that anything could explain.
            drawn["importances"] = axes = draw.plot_param_importances(study.record)
            axes.set_title(f"What the {OBJECTIVE} depends on (PED-ANOVA)", loc="left")
            axes.set(xlabel="share of the importance", ylabel="")
            axes.legend().remove()
        for name, axes in drawn.items():
            assert isinstance(axes.figure, Figure)
            with replacing(study.folder / FIGURES / f"{name}.png") as file:
                axes.figure.savefig(file, dpi=150, bbox_inches="tight", format="png")
            plt.close(axes.figure)
