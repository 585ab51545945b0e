"""What a tuning study leaves to read: a table of its trials, and Optuna's figures."""

import csv
import io
import warnings
from typing import TYPE_CHECKING

from scale.data.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scale.study import Study

TABLE, FIGURES = "trials.csv", "figures"


def write(study: "Study") -> None:
    """Writes `trials.csv` and, where there is something to draw, `figures/{history,importances}.png`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "state", "val_auc", "epochs", *study.space, "error"])
    for trial in study.trials():
        value = None if trial.value is None else round(trial.value, 6)
        values = [trial.params.get(key) for key in study.space]
        found = [trial.number, trial.state.name.lower(), value, len(trial.intermediate_values), *values]
        table.writerow([*found, trial.user_attrs.get("error")])
    with study.alone(), replacing(study.folder / TABLE) as file:
        file.write(text.getvalue().encode())
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
            drawn["history"] = axes = draw.plot_optimization_history(study.record, target_name="best val AUC")
            axes.set(title=f"{len(study.trials())} trials")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(["a trial", "best so far"])
        if len(values) > 1:
            drawn["importances"] = axes = draw.plot_param_importances(study.record)
            axes.set_title("What the val AUC depends on (PED-ANOVA)", loc="left")
            axes.set(xlabel="share of the importance", ylabel="")
            axes.legend().remove()
        for name, axes in drawn.items():
            assert isinstance(axes.figure, Figure)
            with replacing(study.folder / FIGURES / f"{name}.png") as file:
                axes.figure.savefig(file, dpi=150, bbox_inches="tight", format="png")
            plt.close(axes.figure)
