"""SLURM: the number of the present job, and asking for another run of it."""

import os
import subprocess


def requeue() -> str | None:
    """Asks SLURM to run this job again; returns what it said if it refused, None if all is well."""
    try:
        subprocess.run(["scontrol", "requeue", slurm_job()], check=True, capture_output=True, text=True, timeout=60)
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip() or str(error)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def slurm_job() -> str:
    """The SLURM job's number, as `scontrol` takes it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
