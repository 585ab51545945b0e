import pytest

from scale.runs import kept

ROWS = [(0.6, 0.5), (0.9, 0.9), (0.7, 0.4), (0.9, 0.6)]  # val AUC and val loss


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ("{monitor: loss}", [0.6, 0.6, 0.7, 0.7]),
        ("{}", [0.6, 0.6, 0.7, 0.7]),
        ("{monitor: auc}", [0.6, 0.9, 0.9, 0.9]),
        ("null", [0.6, 0.9, 0.7, 0.9]),  # what the training ended with
    ],
)
def test_the_objective_is_the_auc_of_the_epoch_that_the_run_would_keep(tmp_path, checkpoint, expected):
    assert kept.objective(tmp_path) == {}
    (tmp_path / "config.yaml").write_text(f"callbacks: {{checkpoint: {checkpoint}}}")
    lines = [f"{epoch},{auc},{loss}" for epoch, (auc, loss) in enumerate(ROWS)]
    (tmp_path / "history.csv").write_text("\n".join(["epoch,val/auc,val/loss", *lines, "4,,"]))
    assert kept.objective(tmp_path) == dict(enumerate(expected))
