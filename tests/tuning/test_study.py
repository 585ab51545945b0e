import csv
import importlib.util
import math

import pytest

if not importlib.util.find_spec("optuna"):
    pytest.skip("the extra `tune` is not installed", allow_module_level=True)

from optuna.distributions import CategoricalDistribution, FloatDistribution

from scale.config.keys import flat
from scale.tuning import identity, study
from scale.tuning import report as study_report
from scale.tuning.study import Study

SPACE = {"lr": FloatDistribution(1e-4, 0.1, log=True), "fusion": CategoricalDistribution(["attention", "gate"])}
CONFIG = {"data": {"size": 28, "root": None}, "optimizer": {"lr": 0.003}, "threads": None}


def opened(folder, *, space=SPACE, config=CONFIG, **options):
    return Study(folder, space=space, config=config, **options)


def peak(values):
    return 0.9 - 0.1 * abs(math.log10(values["lr"] / 0.01)) - 0.05 * (values["fusion"] == "gate")


def rows(value, epochs=6):
    return {epoch: value - 0.2 / (epoch + 1) for epoch in range(epochs)}


def finish(study, n_trials):
    while (task := study.take(n_trials)) is not None:
        study.report(task, rows(peak(task.values)))
        study.tell(task, value=peak(task.values))
    return study.trials()


def states(study):
    return [trial.state.name for trial in study.trials()]


def test_a_study_learns_and_knows_its_best(tmp_path):
    study = opened(tmp_path / "a", first={"lr": 0.003, "fusion": "gate"}, startup_trials=5)
    trials = finish(study, 14)
    assert len(trials) == 14
    assert trials[0].params == {"lr": 0.003, "fusion": "gate"}
    best = study.best()
    assert best.value == max(t.value for t in trials) > trials[0].value
    early, late = ([peak(t.params) for t in part] for part in (trials[1:5], trials[9:]))
    assert sum(late) / len(late) > sum(early) / len(early)  # the sampler draws on the results


def test_the_first_of_equal_trials_is_the_best(tmp_path):
    study = opened(tmp_path / "a")
    for value in (0.5, 0.8, 0.8):
        study.tell(study.take(3), value=value)
    assert study.best().number == 1
    assert study.take(3) is None


def test_what_is_tried_depends_on_results_and_seed_alone(tmp_path):
    whole = [t.params for t in finish(opened(tmp_path / "whole", startup_trials=3), 7)]
    for count in (1, 5, 7):
        parts = [t.params for t in finish(opened(tmp_path / "parts", startup_trials=3), count)]
    assert parts == whole
    assert len({t["lr"] for t in whole}) == 7
    assert [t.params for t in finish(opened(tmp_path / "other", sampler_seed=1), 2)] != whole[:2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [False, False, True]),  # epochs 0, 2 and 5
        ({"warmup_epochs": 2}, [False, True, True]),
        ({"warmup_epochs": 6}, [False, False, False]),
        ({"startup_trials": 4}, [False, False, False]),
        ({"prune": False}, [False, False, False]),
    ],
)
def test_pruning_below_the_median_after_the_first_epochs_and_trials(tmp_path, options, expected):
    study = opened(tmp_path / "a", **{"startup_trials": 3, "warmup_epochs": 5, **options})
    for value in (0.7, 0.8, 0.9):
        task = study.take(9)
        study.report(task, rows(value))
        study.tell(task, value=value)
    good, bad = study.take(9), study.take(9)
    assert [study.report(bad, rows(0.79, end)) for end in (1, 3, 6)] == expected
    assert not study.report(good, rows(0.81))
    assert not study.report(bad, rows(0.79))  # nothing new
    study.tell(bad, pruned=True)
    assert states(study)[-2:] == ["RUNNING", "PRUNED"]
    assert study.best().value == 0.9


def test_a_trial_belongs_to_one_process_until_it_is_left(tmp_path):
    mine, theirs = opened(tmp_path / "a"), opened(tmp_path / "a")
    first, second = mine.take(2), theirs.take(2)
    assert (first.number, second.number) == (0, 1)
    assert mine.take(2) is None  # all begun, none left behind
    mine.report(first, rows(0.7, 3))
    mine.drop(first)
    again = theirs.take(2)
    assert (again.number, again.values, again.reported) == (0, first.values, {0, 1, 2})
    assert again.folder == tmp_path / "a" / "trials" / "0000"
    theirs.report(again, rows(0.7))
    theirs.tell(again, value=0.7)
    assert list(mine.trials()[0].intermediate_values) == list(range(6))


def test_a_trial_that_ends_while_another_process_looks_for_one_is_not_run_again(tmp_path, monkeypatch):
    first, second = opened(tmp_path / "a"), opened(tmp_path / "a")
    task = first.take(2)
    acquired = study._acquired

    def late(lock):
        if task._lock.is_locked:
            first.tell(task, value=0.7)
        return acquired(lock)

    monkeypatch.setattr(study, "_acquired", late)
    assert second.take(2).trial.number == 1
    assert states(second) == ["COMPLETE", "RUNNING"]


def test_a_trial_whose_making_was_cut_off_is_made_again(tmp_path):
    study = opened(tmp_path / "a", first={"lr": 0.01, "fusion": "gate"})
    study.record.ask()  # takes the first trial, but gives it no values
    trials = finish(study, 2)
    assert [t.state.name for t in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert trials[1].params == {"lr": 0.01, "fusion": "gate"}


def test_where_the_record_is(tmp_path):
    for kind, path in {
        "sqlite": tmp_path / "sqlite" / "study.db",
        "journal": tmp_path / "journal" / "journal.log",
        f"sqlite:///{tmp_path}/elsewhere.db": tmp_path / "elsewhere.db",
    }.items():
        folder = tmp_path / kind.partition(":")[0] if path.parent != tmp_path else tmp_path / "url"
        finish(opened(folder, storage=kind), 1)
        assert path.stat().st_size > 0
        assert states(opened(folder, storage=kind)) == ["COMPLETE"]
        assert (folder / "study.db").exists() == (kind == "sqlite")


def test_a_record_that_cannot_be_read(tmp_path):
    (tmp_path / "study.db").write_text("no database, but long enough to be taken for one" * 50)
    with pytest.raises(ValueError, match=r"study\.db cannot be opened as a study"):
        opened(tmp_path)
    with pytest.raises(ValueError, match=r"storage=jurnal; did you mean 'journal'\?"):
        opened(tmp_path / "b", storage="jurnal")
    with pytest.raises(ValueError, match="nosuchbase"):
        opened(tmp_path / "c", storage="nosuchbase://host/name")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write the study's folder.*study="):
        opened(tmp_path / "file" / "study")


def test_a_study_of_something_else(tmp_path):
    opened(tmp_path)
    free = {"data": {"size": 28, "root": "elsewhere"}, "optimizer": {"lr": 0.003}, "threads": 2}
    opened(tmp_path, config=free)
    with pytest.raises(ValueError, match=r"data\.size is 28 there and 64 here; optimizer\.lr is 0.003 there") as error:
        opened(tmp_path, config={"data": {"size": 64, "root": "b"}, "optimizer": {"lr": 0.01}, "threads": 3})
    assert "study=" in str(error.value)
    assert "threads" not in str(error.value)
    assert "data.root" not in str(error.value)
    with pytest.raises(ValueError, match=r"space of lr is 0.0001 to 0.1, log there and 0.002 to 0.1 here") as error:
        opened(tmp_path, space={"lr": FloatDistribution(0.002, 0.1)})
    assert "the space of fusion is ['attention', 'gate'] there and not set here" in str(error.value)


def test_a_study_of_other_data(tmp_path):
    opened(tmp_path / "a", content="1f")
    opened(tmp_path / "a", content="1f")
    with pytest.raises(ValueError, match=r"labels at data\.path are not the study's\. Give another folder"):
        opened(tmp_path / "a", content="2e")
    opened(tmp_path / "older")  # by a version that knew of no content
    opened(tmp_path / "older", content="2e")


def test_what_is_left_to_read(tmp_path):
    study = opened(tmp_path)
    study.tell(study.take(9), error="it broke")
    study_report.write(study)
    assert list((tmp_path / "figures").iterdir()) == []  # nothing to draw yet
    finish(study, 5)
    study_report.write(study)
    table = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert [row["state"] for row in table] == ["fail"] + ["complete"] * 4
    best = [float(row["val_auc_of_the_kept_epoch"]) for row in table[1:]]
    assert best == pytest.approx([t.value for t in study.trials()[1:]], abs=1e-6)
    assert [row["epochs"] for row in table] == ["0"] + ["6"] * 4
    assert (table[0]["error"], table[1]["error"]) == ("it broke", "")
    assert [float(row["lr"]) for row in table] == [t.params["lr"] for t in study.trials()]
    for name in ("history", "importances"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000


def test_a_study_of_an_earlier_version_is_continued(tmp_path):
    """Keys that were renamed, or that decide nothing today, do not make another study."""
    older = {
        "callbacks": {"rank_watch": {"minutes": 30}},
        "augment": {"quarter_turns": False},
        "data": {"balance": "root"},
    }
    newer = {"augment": {"rotate90": False}, "data": {"balance": "sqrt", "train_samples": None}}
    (known, here) = ({"space": {}, "config": dict(flat(config))} for config in (older, newer))
    assert not list(identity.differing(known, here))
    assert list(identity.differing(known, {"space": {}, "config": {**here["config"], "augment.rotate90": True}}))


@pytest.mark.parametrize(
    ("params", "distributions"),
    [
        ({"lr": "{_target_: torch.utils.collect_env.run, command: 'touch x'}", "fusion": "gate"}, {"lr": ["{"]}),
        ({"lr": 0.01, "fusion": "gate,hydra.run.dir=/tmp/x"}, {"fusion": []}),
        ({"lr": 7.0, "fusion": "gate"}, {"lr": FloatDistribution(1e-4, 10.0)}),
        ({"lr": 0.01, "fusion": "gate", "model._target_": "os.system"}, {"model._target_": []}),
    ],
)
@pytest.mark.parametrize("state", ["RUNNING", "COMPLETE"])
def test_a_strangers_study_puts_nothing_on_a_command_line(params, distributions, state, tmp_path):
    """A trial's values become overrides of a run, or of the best experiment's file."""
    import optuna

    opened(tmp_path / "a")
    record = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path / 'a' / 'study.db'}")
    given = {
        key: found if isinstance(found, FloatDistribution) else CategoricalDistribution([params[key], "other"])
        for key, found in distributions.items()
    }
    finished = {"value": 0.9} if state == "COMPLETE" else {}
    state = optuna.trial.TrialState[state]
    trial = optuna.trial.create_trial(state=state, params=params, distributions={**SPACE, **given}, **finished)
    record.add_trial(trial)
    study = opened(tmp_path / "a")
    for look in (lambda: study.take(5), study.best, study.begun):
        with pytest.raises(ValueError, match=r"trial 0 has .*, which is not in the study's space"):
            look()


def test_what_a_space_gives_is_in_it(tmp_path):
    from optuna.distributions import IntDistribution

    distributions = {
        "a": FloatDistribution(0.0, 1.0, step=0.1), "b": IntDistribution(1, 64, log=True),
        "c": IntDistribution(0, 9, step=3),
        "d": CategoricalDistribution([None, True, 1.5, "[32, 64]"]), "e": FloatDistribution(1e-5, 1e-1, log=True),
    }  # fmt: skip
    study = opened(tmp_path / "a", space=distributions, startup_trials=3)
    while (task := study.take(12)) is not None:
        study.tell(task, value=0.5)
    assert len(study.trials()) == 12


def test_trials_without_their_record_are_not_taken_for_those_of_another(tmp_path):
    """The record was deleted, or is in another storage: trial 0 there was done at once, with an old result."""
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    (tmp_path / "trials" / "0000" / "config.yaml").touch()
    for _ in range(2):
        with pytest.raises(ValueError, match="has trials of a study whose record is not here"):
            Study(tmp_path, space={}, config={})
