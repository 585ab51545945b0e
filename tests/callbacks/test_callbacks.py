import logging
import math
import re
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from scale.callbacks.averaging import AveragedWeights
from scale.callbacks.checkpoint import BestAndLast
from scale.callbacks.console import Console
from scale.callbacks.history import History
from scale.runs import read_history
from scale.training.logs import logging_to


class Scripted(L.LightningModule):
    """Adds 1 to its weight in each step and reports the scores it was given."""

    def __init__(self, scores):
        super().__init__()
        self.weight, self.scores, self.seen = torch.nn.Parameter(torch.zeros(2, 2)), scores, []
        self.register_buffer("steps", torch.tensor(0))

    def training_step(self, batch, batch_idx):
        self.steps += 1
        loss = -self.weight.mean() * self.weight.numel()
        self.log("train/loss", 0.5, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def validation_step(self, batch, batch_idx):
        self.seen.append(self.weight.mean().item())
        auc, loss = self.scores[min(self.current_epoch, len(self.scores) - 1)]
        self.log_dict({"val/auc": auc, "val/loss": loss, "val/acc": 0.5, "lr": 1.0}, batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(folder, scores, callbacks, steps=3, **options):
    loader = DataLoader(torch.zeros(steps, 1))
    trainer = L.Trainer(
        max_epochs=len(scores),
        default_root_dir=folder,
        callbacks=callbacks,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    module = Scripted(scores)
    trainer.fit(module, loader, DataLoader(torch.zeros(1, 1)))
    return module, trainer


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 1.0), (0.9, 1.0), (0.7, 0.1)], 1),
        ([(0.9, 0.9), (0.9, 0.5), (0.9, 0.7)], 1),  # of equals the one with the lowest loss
        ([(math.nan, 0.5), (0.4, 0.9)], 1),
        ([(math.nan, 0.5), (math.nan, 0.4)], 1),
    ],
)
def test_best_epoch_and_last_epoch_are_kept(tmp_path, scores, best):
    fit(tmp_path, scores, [BestAndLast(monitor="auc")])
    folder = tmp_path / "checkpoints"
    states = {name: torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("best", "last")}
    assert states["best"]["epoch"] == best
    assert states["last"]["epoch"] == len(scores) - 1
    assert states["best"]["state_dict"]["weight"].mean() == 3 * (best + 1)
    previous = ["previous.ckpt"] if len(scores) > 1 else []
    assert sorted(p.name for p in folder.iterdir()) == ["best.ckpt", "last.ckpt", *previous]


def test_the_first_of_equals_is_kept_where_asked_for(tmp_path):
    scores = [(0.5, 0.1), (0.9, 0.9), (0.9, 0.5)]
    fit(tmp_path, scores, [BestAndLast(monitor="auc", first_of_equals=True)])
    assert torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("first", [0.7, math.nan])
def test_the_lowest_loss_is_kept_unless_asked_otherwise(tmp_path, first):
    scores = [(0.9, first), (0.8, 0.2), (0.95, 0.4), (0.7, 0.2)]
    fit(tmp_path, scores, [BestAndLast()])
    assert torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
    with pytest.raises(ValueError, match="monitor='acc': give auc or loss"):
        BestAndLast(monitor="acc")
    with pytest.raises(ValueError, match="give callbacks.checkpoint.monitor=auc with it"):
        BestAndLast(first_of_equals=True)


def test_a_failed_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    def broken(self, path, *_, **__):
        if self.current_epoch == 1:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return save(self, path)

    save = L.Trainer.save_checkpoint
    monkeypatch.setattr(L.Trainer, "save_checkpoint", broken)
    with pytest.raises(OSError, match="No space"):
        fit(tmp_path, [(0.5, 1.0), (0.6, 1.0)], [BestAndLast()])
    for name in ("best", "last"):
        assert torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)["epoch"] == 0


@pytest.mark.parametrize("at", ["partial.ckpt", "copy.ckpt"])
def test_a_full_disk_leaves_no_part_of_a_checkpoint(at, tmp_path, monkeypatch):
    import shutil

    def full(*arguments, **_):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        place = next(Path(text) for text in arguments if str(text).endswith(at))
        place.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    target = (L.Trainer, "save_checkpoint") if at == "partial.ckpt" else (shutil, "copyfile")
    monkeypatch.setattr(*target, full)
    with pytest.raises(OSError, match="No space"):
        fit(tmp_path, [(0.5, 1.0)], [BestAndLast()])
    assert not list((tmp_path / "checkpoints").glob("*"))


PRECISIONS = {"64-true": torch.float64, "32-true": torch.float32, "bf16-true": torch.float32, "16-true": torch.float32}


@pytest.mark.parametrize("precision", [*PRECISIONS, "bf16-mixed"])
def test_the_average_is_as_precise_as_the_weights_or_better(precision, tmp_path):
    seen = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            seen.append((average._average_model.module.weight.clone(), pl_module.weight.detach().clone()))

    average = AveragedWeights(decay=0.9)
    fit(tmp_path, [(0.5, 1.0)], [average, Look(), BestAndLast()], steps=4, precision=precision)
    expected = seen[0][1].double()  # the first is copied
    for number, (averaged, weight) in enumerate(seen):
        assert averaged.dtype == PRECISIONS.get(precision, torch.float32)
        decay = min(0.9, (1 + number) / (10 + number))
        expected = expected if number == 0 else decay * expected + (1 - decay) * weight.double()
        torch.testing.assert_close(averaged.double(), expected, rtol=1e-6, atol=0)


def test_statistics_of_batch_normalisation_are_averaged_too(tmp_path):
    class Normalised(Scripted):
        def __init__(self, scores):
            super().__init__(scores)
            self.norm = torch.nn.BatchNorm1d(1)

        def training_step(self, batch, batch_idx):
            self.norm(torch.tensor([[0.0], [2.0]]) * (batch_idx + 1))
            return super().training_step(batch, batch_idx)

    monkey, means = AveragedWeights(decay=0.5), []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            means.append((pl_module.norm.running_mean.item(), monkey._average_model.module.norm.running_mean.item()))

    trainer = L.Trainer(
        max_epochs=1, callbacks=[monkey, Look()], logger=False, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Normalised([(0.5, 1.0)]), DataLoader(torch.zeros(3, 1)), DataLoader(torch.zeros(1, 1)))
    (first, start), (second, after), _ = means
    assert start == pytest.approx(first)
    assert after == pytest.approx(first + (second - first) * (1 - 2 / 11))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"check_val_every_n_epoch": 3}, "check_val_every_n_epoch=3, but the training has 2 epochs.*give at most 2"),
        ({"max_steps": 2}, "max_steps=2 ends within an epoch of 4 steps.*give 4 or"),
        ({"max_steps": 6}, "max_steps=6 ends within an epoch of 4 steps.*give 4 or"),
        ({"max_steps": 3, "accumulate_grad_batches": 2}, "max_steps=3 ends within an epoch of 2 steps.*give 2 or"),
    ],
)
def test_a_training_that_val_would_not_judge_is_refused_before_its_first_step(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(Scripted, "training_step", lambda *_: pytest.fail("a step was trained"))
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, [(0.5, 1.0)] * 2, [BestAndLast()], steps=4, **options)


def test_last_epochs_that_val_would_not_judge_are_refused(tmp_path):
    """They were trained, at the lowest rates, and could never be kept."""
    with pytest.raises(ValueError, match="does not divide the 5 epochs: the last 1 .*max_epochs=4 or"):
        fit(tmp_path, [(0.5, 1.0)] * 5, [BestAndLast()], check_val_every_n_epoch=2)


@pytest.mark.parametrize("options", [{"check_val_every_n_epoch": 2}, {"max_steps": 4}, {"max_steps": 30}])
def test_a_training_whose_end_val_judges_is_not(options, tmp_path):
    fit(tmp_path, [(0.5, 1.0)] * 2, [BestAndLast()], steps=4, **options)
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()


def test_a_checkpoint_never_falls_between_accumulated_batches(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        BestAndLast, "save", lambda self, trainer, *, best: saved.append(trainer.fit_loop.batch_idx + 1)
    )
    fit(tmp_path, [(0.5, 1.0)], [BestAndLast(every_n_minutes=1e-9)], steps=7, accumulate_grad_batches=3)
    assert saved == [3, 6, 7]


def test_history_has_a_row_an_epoch(tmp_path):
    fit(tmp_path, [(0.5, 1.0), (0.25, 2.0)], [History()])
    rows = read_history(tmp_path)
    assert [row["val/auc"] for row in rows] == [0.5, 0.25]
    assert [row["val/loss"] for row in rows] == [1.0, 2.0]
    assert [row["step"] for row in rows] == [3, 6]
    assert all(row["train/loss"] == 0.5 and row["seconds"] >= 0 for row in rows)


def test_history_goes_on_behind_an_earlier_part():
    first, second = History(), History()
    first.rows.append({"epoch": 0.0})
    second.load_state_dict(first.state_dict())
    assert second.rows == [{"epoch": 0.0}]


def slow_average(values, decay):
    average = None
    for count, value in enumerate(values):
        share = min(decay, (1 + count) / (10 + count))
        average = value if average is None else share * average + (1 - share) * value
    return average


def test_validation_and_the_end_see_the_average(tmp_path):
    module, trainer = fit(tmp_path, [(0.5, 1.0)] * 3, [AveragedWeights(decay=0.6), BestAndLast()])
    # The average begins at the first step's weights; each step adds 1.
    expected = [slow_average(range(1, 3 * epoch + 1), 0.6) for epoch in (1, 2, 3)]
    assert module.seen == pytest.approx(expected, rel=1e-5)
    assert module.weight.mean().item() == pytest.approx(expected[-1], rel=1e-5)
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["state_dict"]["weight"].mean().item() == pytest.approx(expected[-1], rel=1e-5)
    assert last["current_model_state"]["weight"].mean().item() == 9
    assert last["state_dict"]["steps"] == 9  # a counter is no average
    with torch.no_grad():
        module.weight.fill_(5.0)
    trainer.validate(module, DataLoader(torch.zeros(1, 1)), verbose=False)
    assert module.seen[-1] == 5.0  # what was loaded afterwards is what is evaluated


def test_decay_must_be_a_share():
    with pytest.raises(ValueError, match="decay=1.5"):
        AveragedWeights(decay=1.5)


SCORES = [(0.5, 1.0), (0.75, 0.5), (0.875, 2.0)]  # the second has the lowest loss


def test_a_log_gets_one_line_an_epoch_which_says_what_is_kept(tmp_path, caplog):
    caplog.set_level("INFO", logger="scale")
    fit(tmp_path, SCORES, [Console(bar=False), BestAndLast()])
    lines = [record.message for record in caplog.records if record.name == "scale"]
    assert len(lines) == 3
    assert lines[1] == "epoch   1 (2/3)  loss 0.5000  val loss 0.5000  val AUC 0.7500  val ACC 0.5000  00:00 left  kept"
    assert [line.endswith("kept") for line in lines] == [True, True, False]


def test_the_mark_follows_what_the_checkpoint_keeps(tmp_path, caplog):
    caplog.set_level("INFO", logger="scale")
    fit(tmp_path, SCORES, [Console(bar=False), BestAndLast(monitor="auc")])
    assert [record.message.endswith("kept") for record in caplog.records if record.name == "scale"] == [True] * 3


class Speaks(L.Callback):
    def on_train_epoch_start(self, trainer, module):
        logging.getLogger("scale").info("a line of the log")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_terminal_of_any_width_gets_a_bar_with_all_figures(columns, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with logging_to(tmp_path / "train.log"):
        fit(tmp_path, SCORES, [Console(), Speaks(), BestAndLast()])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    lines = [line.rpartition("\r")[2] for line in text.splitlines()]
    assert (tmp_path / "train.log").read_text().count(" kept\n") == 2
    assert max(len(line) for line in lines if "val AUC" in line) <= columns
    kept = [line.rstrip() for line in lines if "val loss" in line and "\u2501" not in line]
    assert [line.endswith("kept") for line in kept] == [True, True, False]  # one line an epoch stays
    assert all(("val ACC" in line) == (columns >= 80) for line in kept)
    for part in ("1 (2/3)", "loss 0.500", "val loss 0.500", "val AUC 0.750"):
        assert part in kept[1]
    assert sum("a line of the log" in line for line in lines) == 3  # whole, above the bar
    bar = [line.rstrip() for line in lines if "\u2501" in line][-1]
    assert bar.startswith(("3/3 " if columns < 80 else "epoch 2 (3/3) ") + 3 * "\u2501")
    for part in ("loss 0.500", "val loss 2.000", "val AUC 0.875", "00:00"):
        assert part in bar
