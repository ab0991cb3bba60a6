"""`snakemake --executor slurm-arrays`: Snakemake's Slurm plugin with arrays whose tasks are complete jobs.

Snakemake finds this package by its name. The plugin's arrays have two faults in version 2.8.0. The Snakemake
that wraps a task runs the job of the array's first task, and so removes that job's output when the task
fails. And jobs are never submitted if more are ready than may be submitted at once. Here each task runs the
command of a single job, so that failure, retry, cancellation and records are those of single jobs. And a job
starts one Snakemake, not one that starts another. The rest is the plugin's; tests/test_slurm_arrays.py checks
what this package relies on.
"""

# no `from __future__ import annotations`: Snakemake makes options of the settings and needs their types
import asyncio
import functools
import re
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import Logger
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import snakemake_executor_plugin_slurm as slurm
from snakemake_executor_plugin_slurm import common_settings as common_settings
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_or_get_slurm_job_id, validate_slurm_extra
from snakemake_executor_plugin_slurm_jobstep import get_cpu_setting, get_gpu_setting, get_node_setting
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from encoder_roles.cluster.slurm import ask, table_rows
from encoder_roles.manifest.retry import renounced
from encoder_roles.study.command_line import check_command_line
from encoder_roles.study.names import StudyError

REVIEWED = "2.8.0"  # the version of snakemake-executor-plugin-slurm that this package was written for

# What a step keeps of the variables that Slurm sets in a job; the others are options of the job.
KEPT = "CONF|JOB_ID|JOBID|ARRAY_JOB_ID|ARRAY_TASK_(ID|MIN|MAX|STEP)|CLUSTER_NAME|SUBMIT_(DIR|HOST)"
FORGET = (
    "unset $(env | sed -n 's/=.*//p' | grep -E '^(SLURM|SRUN|SBATCH)_[A-Z0-9_]+$'"
    f" | grep -vxE 'SLURM_({KEPT})')"
)

# Snakemake imports every plugin as it starts, and nothing else of ours before it reads the config files
try:
    check_command_line(sys.argv)
except StudyError as error:
    sys.exit(f"error: {error}")


@dataclass
class ExecutorSettings(slurm.ExecutorSettings):
    """The plugin's settings and the largest size of an array."""

    largest: int = field(
        default=1,
        metadata={
            "help": "The largest number of tasks of an array. Jobs of one rule that are ready at the same "
            "time and need the same resources form an array; 1: no arrays.",
            "env_var": False,
            "required": False,
        },
    )


class Executor(slurm.Executor):
    """The plugin's executor with arrays, and with jobs that the plugin would lose."""

    def __post_init__(self, test_mode: bool = False) -> None:
        super().__post_init__(test_mode)
        if self.array_jobs:
            raise WorkflowError(
                "--slurm-arrays-array-jobs: this executor does not have it; set --slurm-arrays-largest"
            )
        self.largest: int = self.workflow.executor_settings.largest
        # else the command is a word of another one, whose shell replaces what looks like a variable
        self.workflow.executor_settings.pass_command_as_script = True

    def additional_general_args(self) -> str:
        """Nothing: the job's Snakemake runs the job itself."""
        return ""

    def format_job_exec(self, job: JobExecutorInterface) -> str:
        """A job's command: Snakemake in a step of the Slurm job; in none if the rule calls srun itself.

        The plugin's job starts a Snakemake that starts srun with another Snakemake, which takes the job's
        memory and a file system's patience twice.
        """
        command: str = super().format_job_exec(job)
        gpus = get_gpu_setting(job)
        step = ["srun -n1 --cpu-bind=q", get_cpu_setting(job, bool(gpus)), gpus, get_node_setting(job)]
        if "mpi" in job.resources.keys():  # noqa: SIM118 - no mapping
            step = []
        before, python, after = command.rpartition(f"{self.get_python_executable()} -m snakemake ")
        return " ".join(filter(None, [f"{before}{FORGET} && exec", *step, f"{python}{after}"]))

    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """Submit jobs that are ready at the same time: jobs of one rule in arrays, all others alone."""
        by_rule: defaultdict[str, list[JobExecutorInterface]] = defaultdict(list)
        for job in jobs:
            if self.largest > 1 and not job.is_group():
                by_rule[job.rule.name].append(job)
        batches = [same for same in by_rule.values() if len(same) > 1]
        in_arrays = {job for same in batches for job in same}
        super().run_jobs([job for job in jobs if job not in in_arrays])
        for same in batches:
            self._submit_array_jobs(same)  # which calls run_array_jobs in a thread

    def run_array_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """Submit jobs of one rule in as few arrays as possible; all tasks of an array have one request."""
        alike: defaultdict[tuple[str, str], list[JobExecutorInterface]] = defaultdict(list)
        for job in jobs:
            with self.errors_reported([job]):
                alike[self.request(job), str(job.resources.get("slurm_account"))].append(job)
        for (request, _), same in alike.items():
            for first in range(0, len(same), self.largest):
                tasks = same[first : first + self.largest]
                if len(tasks) == 1:
                    self.run_job(tasks[0])
                    continue
                with self.errors_reported(tasks):
                    self.submit_array(request, tasks)

    @contextmanager
    def errors_reported(self, jobs: Sequence[JobExecutorInterface]) -> Iterator[None]:
        """Report an error of the submission thread as a failure of its jobs: nothing else would report it."""
        try:
            yield
        except Exception as error:
            for job in jobs:
                self._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {error}\n")

    def request(self, job: JobExecutorInterface) -> str:
        """The sbatch call for a job, without its account and its command."""
        validate_slurm_extra(job)
        facts = {
            "run_uuid": self.run_uuid,
            "slurm_logfile": self.slurm_logdir / f"rule_{job.name}" / "%A_%a.log",
            "comment_str": f"rule_{job.name}",
            "account": "",
            "partition": self.get_partition_arg(job),
            "workdir": self.workflow.workdir_init,
        }
        settings = self.workflow.executor_settings
        call: str = get_submit_command(job, facts, settings=settings, failed_nodes=self._failed_nodes)
        return f"{call}{set_gres_string(job)}"

    def submit_array(self, request: str, tasks: Sequence[JobExecutorInterface]) -> None:
        """Submit an array with one sbatch call. Raises WorkflowError, with sbatch's message, if it fails."""
        logs = self.slurm_logdir / f"rule_{tasks[0].name}"
        logs.mkdir(parents=True, exist_ok=True)
        call = f"{request}{next(self.get_account_arg(tasks[0]))} --array=1-{len(tasks)}"
        script = array_script([self.format_job_exec(job) for job in tasks])
        # a site's banner need not be UTF-8
        done = subprocess.run(
            shlex.split(call), input=script, capture_output=True, encoding="utf-8", errors="replace"
        )
        if done.returncode:
            raise WorkflowError(f"{' '.join(done.stderr.split())}\n    sbatch call: {call}")
        array = submitted_id("", done.stdout)
        for number, job in enumerate(tasks, start=1):
            id, log = f"{array}_{number}", logs / f"{array}_{number}.log"
            self.logger.info(f"Job {job.jobid} has been submitted with SLURM jobid {id} (log: {log}).")
            submitted = SubmittedJobInfo(job, external_jobid=id, aux={"slurm_logfile": log})
            self._report_job_submission_threadsafe(submitted)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncIterator[SubmittedJobInfo]:
        """Report jobs that have ended and yield all others, including those that the plugin would lose."""
        # Without jobs this may run before __post_init__ has set any attribute: its thread starts first.
        answers = self._status_query_calls if active_jobs else 0
        left = [job async for job in super().check_active_jobs(active_jobs)]
        if active_jobs and self._status_query_calls == answers:
            left = active_jobs  # Slurm did not answer, and the plugin would forget its jobs
        cancelled = self.cancelled_waiting({job.external_jobid for job in left if "_" in job.external_jobid})
        for job in left:
            if job.external_jobid in cancelled:
                self.report_job_error(job, msg=f"{job.external_jobid} was cancelled before it began. ")
            else:
                yield job

    def cancelled_waiting(self, tasks: set[str]) -> set[str]:
        """Tasks cancelled before they began: Slurm lists them under the array, or not at all."""
        if not tasks:
            return set()
        squeue = ("squeue", "--noheader", "--array", "--states", "all", "--name", self.run_uuid)
        sacct = ("sacct", "--allocations", "--noheader", "--parsable2", "--format", "JobID", "--jobs")
        try:
            printed = ask(*squeue, "--format", "%i|%T")
            states = {row[0]: row[1] for row in table_rows(printed, columns=2)}
            gone = {task for task in tasks if states.get(task, "CANCELLED") == "CANCELLED"}
            if gone and self.get_status_command() == "sacct":  # which lists a task separately once it began
                gone -= set(ask(*sacct, ",".join(sorted(gone))).split())
        except StudyError:
            return set()  # no answer from Slurm: the next check tries again
        return gone

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: object) -> None:
        """Report a failed job. One whose data are at fault has no retry left, because none would help."""
        job = job_info.job
        logs = [Path(log) for part in (job.jobs if job.is_group() else [job]) for log in part.log]
        if renounced(str(job_info.external_jobid), logs):
            job.attempt = job.restart_times + 1
            msg = f"{msg or ''} Its data are at fault, so it is not run again: see its log. "
        super().report_job_error(job_info, msg=msg, **kwargs)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:  # noqa: ARG002 - incomplete
        """Cancel the run's jobs by their common name, including those that are just being submitted."""
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        try:
            ask("scancel", "--name", self.run_uuid)
        except StudyError as error:
            self.logger.error(f"jobs not cancelled: {error}: `encoder-roles cancel-orphans` cancels them")


def array_script(commands: Sequence[str]) -> str:
    """The batch script of an array: task 1 runs the first command, task 2 the second, and so on."""
    tasks = [f"{number})\n{command}\n;;" for number, command in enumerate(commands, start=1)]
    return "\n".join(["#!/bin/sh", 'case "$SLURM_ARRAY_TASK_ID" in', *tasks, "*) exit 2 ;;", "esac", ""])


def submitted_id(answer: str, output: str) -> str:
    """The job's id in the output of `sbatch --parsable`: `<id>` or `<id>;<cluster>`, on a line of its own.

    A site's banner may have other numbers. Raises WorkflowError if there is no such line and the plugin sees
    no id either.
    """
    ids = re.findall(r"^\s*(\d+)\s*(?:;.*)?$", output, re.MULTILINE)
    id: str = validate_or_get_slurm_job_id(ids[-1] if ids else answer, output)
    return id


async def job_states(command: str, logger: Logger) -> tuple[dict[str, str] | None, float | None]:
    """Job id -> state, and the seconds of the call; (None, None) if Slurm does not answer.

    `command` prints rows `<id>|<state>`; a site's other lines, in whatever encoding, are passed over.
    """
    start = time.monotonic()
    try:
        printed = await asyncio.to_thread(ask, *shlex.split(command))
    except StudyError as error:
        logger.debug(f"no states of jobs: {error}")
        return None, None
    return {row[0]: row[1] for row in table_rows(printed, columns=2)}, time.monotonic() - start


def reading_any_bytes(start: Callable[..., Any]) -> Callable[..., Any]:
    """A function of `subprocess` that decodes whatever text a command prints, where it decodes at all."""

    @functools.wraps(start)
    def decoding(*command: Any, **options: Any) -> Any:
        lenient = {"encoding": "utf-8", "errors": "replace"} if options.get("text") else {}
        return start(*command, **options, **lenient)

    return decoding


# The plugin starts sbatch, sacctmgr and the like with `text=True`, which fails on a banner in Latin-1
lenient_subprocess = SimpleNamespace(**{name: getattr(subprocess, name) for name in subprocess.__all__})
for name in ("Popen", "run", "check_output"):
    setattr(lenient_subprocess, name, reading_any_bytes(getattr(subprocess, name)))
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == slurm.__name__ and getattr(module, "subprocess", None) is subprocess:
        module.subprocess = lenient_subprocess  # type: ignore[attr-defined]

# The plugin's readers of Slurm's output, which it takes from its module: with theirs, a banner that is not
# UTF-8 leaves every job unanswered, and one with a number makes a submitted job a failed one.
slurm.validate_or_get_slurm_job_id = submitted_id
slurm.query_job_status = job_states
