"""A tuning study: Optuna's record and a run folder for each trial, shared by any number of processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from scale.runs.folder import refuse_links
from scale.tuning import identity
from scale.tuning.space import foreign
from scale.utils.choices import nearest

if TYPE_CHECKING:
    import optuna

    from scale.tuning.space import Space, Value

DATABASE, JOURNAL, LOCK, TRIALS, TRIAL_LOCK = "study.db", "journal.log", "study.lock", "trials", ".trial.lock"
OBJECTIVE = "val AUC of the kept epoch"  # which the lowest val loss chooses, unless callbacks.checkpoint says otherwise


@dataclass
class Task:
    """A trial that is this process' to run.

    Attributes:
        trial: Optuna's.
        folder: of its run.
        values: by override key.
        reported: epochs whose objective is known to Optuna.
    """

    trial: "optuna.trial.Trial"
    folder: Path
    values: "dict[str, Value]"
    reported: set[int]
    _lock: FileLock

    @property
    def number(self) -> int:
        """Of the trial, from 0."""
        return self.trial.number


class Study:
    """Hands out trials, one process at a time, and takes their results.

    A trial is its process' own as long as that holds a lock in the run's folder. The system frees the lock
    when a process ends, however it ends, and another one resumes the trial.

    Optuna is asked and told; its own loop and its own retries would break what a study promises. `study.optimize`
    stops by counting finished trials, so that processes together run too many (MaxTrialsCallback), and takes one
    sampler seed a process. Its heartbeats know a dead process only after a grace period, exist for databases and not
    for the journal, and RetryHeartbeatStaleTrialCallback makes another trial where the run folder has a checkpoint.

    Args:
        folder: of the study; made if need be.
        space: by override key.
        config: of a training without the values of a trial, as plain values.
        content: hash of the images and labels, where the configuration names them by a path.
        first: the trial to begin with.
        storage: `sqlite`, `journal` or the URL of a database.
        prune: stop trials that are worse than the median at the same epoch.
        startup_trials: before sampler and pruner learn.
        warmup_epochs: without pruning.
        sampler_seed: of the sampler.

    Attributes:
        record: Optuna's study.

    Raises:
        ValueError: the folder holds a study of something else, or the storage cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        space: "Space",
        config: Mapping[str, Any],
        content: str | None = None,
        first: "Mapping[str, Value] | None" = None,
        storage: str = "sqlite",
        prune: bool = True,
        startup_trials: int = 8,
        warmup_epochs: int = 5,
        sampler_seed: int = 0,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.space = folder, space
        self._startup, self._seed = startup_trials, sampler_seed
        pruner = optuna.pruners.MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup_epochs)
        here = identity.of(space, config, content)
        refuse_links(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / LOCK).touch()
        except OSError as error:
            text = f"cannot write the study's folder ({error.strerror}); give another with study=..."
            raise type(error)(error.errno, text, str(folder)) from error
        with self.alone():
            self._storage = _storage(storage, folder)
            self.record = optuna.create_study(
                storage=self._storage,
                study_name="study" if storage in ("sqlite", "journal") else folder.as_posix(),
                direction="maximize",
                pruner=pruner if prune else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
            known = self.record.user_attrs.get("identity")
            if known is None and any((folder / TRIALS).glob("*/config.yaml")):
                raise ValueError(
                    f"{folder} has trials of a study whose record is not here (was {DATABASE} deleted, or storage= "
                    "another one?): their results would be taken for other values; give that record or another study="
                )
            if known is None:
                self.record.set_user_attr("identity", here)
            elif differing := list(identity.differing(known, here)):
                raise ValueError(
                    f"{folder} is a study of something else: {'; '.join(differing[:5])}"
                    f"{f'; and {len(differing) - 5} more' if len(differing) > 5 else ''}. "
                    "Give another folder with study=..., or the command that began this one"
                )
            if first is not None and not self.trials():
                self.record.enqueue_trial(dict(first))

    def trials(self) -> "list[optuna.trial.FrozenTrial]":
        """All trials of all processes; ValueError for a value that no command of this study can have tried."""
        found = self.record.get_trials(deepcopy=False)
        for trial in found:
            if wrong := foreign(self.space, trial.params):  # it would be an override of a run
                raise ValueError(f"{self.folder}: trial {trial.number} has {wrong}; begin another study: study=...")
        return found

    def begun(self) -> int:
        """Number of trials that have begun or ended."""
        return sum(set(trial.params) == set(self.space) for trial in self.trials())

    def take(self, n_trials: int) -> Task | None:
        """A trial that its process left behind, else a new one; None where there is neither.

        Args:
            n_trials: number of trials at which no new one begins.
        """
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        with self.alone():
            for seen in self.trials():
                if seen.state != TrialState.RUNNING or not _acquired(lock := self._lock(seen.number)):
                    continue
                # The list was read before the lock was taken: the trial may have ended in between.
                found = self.trials()[seen.number]
                if found.state != TrialState.RUNNING:  # its process has ended it since
                    lock.release()
                    continue
                if set(found.params) == set(self.space):
                    return self._task(found.number, lock)
                # Its process ended while the trial was being made.
                self.record.tell(found.number, state=TrialState.FAIL)
                if "fixed_params" in found.system_attrs:
                    self.record.enqueue_trial(found.system_attrs["fixed_params"])
                lock.release()
            # Counted under the study's lock, so that processes together begin as many as were asked for, and no more.
            count = self.begun()
            if count >= n_trials:
                return None
            # Each trial has a sampler seed of its own: what is tried depends on the results so far, not on who asks or
            # how often the command was stopped.
            seed = int(np.random.SeedSequence([self._seed, count]).generate_state(1)[0])
            self.record.sampler = TPESampler(seed=seed, n_startup_trials=self._startup)
            trial = self.record.ask(self.space)
            lock = self._lock(trial.number)
            lock.acquire()
            return self._task(trial.number, lock)

    def report(self, task: Task, curve: Mapping[int, float]) -> bool:
        """Tells Optuna of new epochs; says whether the trial is to be stopped.

        Args:
            task: a trial.
            curve: what the objective would be if the run ended after an epoch.
        """
        new = [epoch for epoch in curve if epoch not in task.reported]
        for epoch in new:
            task.trial.report(curve[epoch], epoch)
            task.reported.add(epoch)
        return bool(new) and task.trial.should_prune()

    def tell(self, task: Task, *, value: float | None = None, pruned: bool = False, error: str | None = None) -> None:
        """Ends a trial: with its objective, as a pruned one, or as one that failed.

        Args:
            task: a trial.
            value: the objective, of a run that is done.
            pruned: it was stopped for its curve.
            error: why it failed.
        """
        from optuna.trial import TrialState

        if error is not None:
            task.trial.set_user_attr("error", error)
            self.record.tell(task.trial, state=TrialState.FAIL)
        elif pruned:
            self.record.tell(task.trial, state=TrialState.PRUNED)
        else:
            self.record.tell(task.trial, value)
        task._lock.release()

    def drop(self, task: Task) -> None:
        """Leaves a trial to the next process that looks for one."""
        task._lock.release()

    def best(self) -> "optuna.trial.FrozenTrial | None":
        """The finished trial with the highest objective, the first of equal ones."""
        from optuna.trial import TrialState

        finished = [t for t in self.trials() if t.state == TrialState.COMPLETE and t.value is not None]
        return max(finished, key=lambda t: (t.value, -t.number), default=None)

    def run_folder(self, number: int) -> Path:
        """Where a trial's run is."""
        return self.folder / TRIALS / f"{number:04d}"

    def _task(self, number: int, lock: FileLock) -> Task:
        """A trial by its number, whichever process began it."""
        from optuna.trial import Trial

        study = self._storage.get_study_id_from_name(self.record.study_name)
        trial = Trial(self.record, self._storage.get_trial_id_from_study_id_trial_number(study, number))
        known = self.trials()[number].intermediate_values
        return Task(trial, self.run_folder(number), dict(trial.params), set(known), lock)

    def _lock(self, number: int) -> FileLock:
        """The lock of the process that watches a trial.

        The run's own lock cannot serve: the run outlives a command that is killed, for the moment in which it saves,
        and so would look taken to the command that is to resume it.
        """
        folder = self.run_folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / TRIAL_LOCK)

    def alone(self) -> FileLock:
        """As a context, lets one process at a time pass."""
        return FileLock(self.folder / LOCK)


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _storage(kind: str, folder: Path) -> "optuna.storages.BaseStorage":
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    if kind == "journal":
        return optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    if kind != "sqlite" and "://" not in kind:
        close = nearest(kind, ["sqlite", "journal"])
        raise ValueError(f"storage={kind}{close}: give sqlite, journal or a database's URL such as postgresql://...")
    url = f"sqlite:///{(folder / DATABASE).resolve()}" if kind == "sqlite" else kind
    patience = {"connect_args": {"timeout": 60}} if kind == "sqlite" else {}  # s, while another process writes
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=patience)
    except (SQLAlchemyError, RuntimeError, ImportError, optuna.exceptions.OptunaError) as error:
        place = folder / DATABASE if kind == "sqlite" else kind.partition("://")[0] + "://..."
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{place} cannot be opened as a study ({type(error).__name__}: {reason})") from error
