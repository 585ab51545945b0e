"""`python -m scale.report`: what it writes, where, and what it refuses."""

import csv
import json

import pytest
from run_folders import make_run

from scale import report
from scale.published import ours


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["report", *map(str, arguments)])
    report.main()


def refused(monkeypatch, capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments)
    assert stop.value.code == 1
    return capsys.readouterr().err


def test_a_leaderboard_of_runs(monkeypatch, capsys, tmp_path):
    make_run(tmp_path / "a,b", seed=3)
    make_run(tmp_path / "part", seed=4, partial=True)
    before = ours.RESULTS.read_bytes()
    pattern = f"runs=[{tmp_path / 'a?b'},{tmp_path / 'part'}]"
    run(monkeypatch, pattern, f"output={tmp_path / 'out'}", "data=breastmnist")
    said = capsys.readouterr()
    assert str(tmp_path / "out" / "leaderboard.html") in said.out
    assert f"left out: {tmp_path / 'part'} evaluated only a part of its splits" in said.err
    with (tmp_path / "out" / "leaderboard.csv").open(newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert kinds.count("run") == 1
    assert kinds.count("ours") > 1
    assert ours.RESULTS.read_bytes() == before


def test_jobs_of_a_sweep_that_never_began_are_named(monkeypatch, capsys, tmp_path):
    sweep = tmp_path / "sweep"
    make_run(sweep / "0", seed=0)
    (sweep / "0" / "job.json").write_text(json.dumps({"number": 0, "status": "done", "reason": "", "attempts": [{}]}))
    jobs = [["data=breastmnist", "seed=0"], ["data=breastmnist", "seed=1"]]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    run(monkeypatch, f"runs={sweep}", f"output={tmp_path / 'out'}", "data=breastmnist")
    assert f"left out: {sweep} has no run of its job 1: data=breastmnist seed=1" in capsys.readouterr().err
    assert "has no run of its job 1" in (tmp_path / "out" / "leaderboard.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ablations"], "did you mean '--ablation'"),
        (["ouput=x"], "did you mean 'output'"),
        (["output=x", "--ablation"], "goes with runs=, data= and published= only"),
        (["runs=x"], "say where to write it, output=DIR"),
        (["runs=none*", "output=out"], "no such folder"),
        (["published=none.csv", "output=out"], "no such file"),
        (["output=out", "data=bresatmnist"], "there is no result on it"),
        (["results=none.csv"], "name run folders to begin one"),
        (["variant=x"], "give their folders"),
    ],
)
def test_what_it_refuses(arguments, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert said in refused(monkeypatch, capsys, *arguments)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_into_the_package(monkeypatch, capsys, tmp_path):
    folder, before = make_run(tmp_path / "run"), ours.RESULTS.read_bytes()
    assert "nothing is written into the installed package" in refused(monkeypatch, capsys, folder)
    assert ours.RESULTS.read_bytes() == before


def test_rows_are_added_to_a_file_that_is_named(monkeypatch, capsys, tmp_path):
    extra = {"epochs": 3, "best_epoch": 1, "seconds": {"fit": 1.0}}
    folder, before = make_run(tmp_path / "run", **extra), ours.RESULTS.read_bytes()
    (folder / "environment.json").write_text(json.dumps({"commit": "0" * 40, "modified": False}))
    mine = tmp_path / "mine.csv"
    run(monkeypatch, f"results={mine}", folder)
    assert len(ours.read(mine)) == 1
    assert "`scale_tiny`" in capsys.readouterr().out
    assert ours.RESULTS.read_bytes() == before
