"""Checks before a run through Slurm: whatever would make jobs wait forever, or fail one after another."""

from __future__ import annotations

import getpass
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from encoder_roles.cluster.profile import started_configs
from encoder_roles.cluster.rehearsed import check_rehearsal
from encoder_roles.cluster.site import SITE_FILE, Partition, Site, cpus_per_process, divide_evenly, read_site
from encoder_roles.cluster.slurm import (
    ask,
    configuration,
    has_accounting,
    partition_minutes,
    queued_jobs,
    run_prefix,
    table_rows,
)
from encoder_roles.manifest.environment import check_environment
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.names import TRAINING_JOBS, StudyError
from encoder_roles.study.sections import REPOSITORY, JobRequest

EARLIER = 60  # seconds by which Slurm may send a warning too early
ARRAY_SIZE = 1001  # Slurm's default MaxArraySize
TASK_BYTES = 8000  # most bytes per task in the script of an array
BLOCK = bytes(2**20)  # written to test whether a folder is writable
GB = 10**9


def preflight(*, configs: tuple[Path, ...] = (), site: Path = SITE_FILE) -> None:
    """Check that a study can run on this cluster: one line per fault, or the study's name.

    `snakemake --profile slurm` runs the same checks first. Run it from the repository's root.

    Args:
        configs: config.yaml and the study that overrides it, if any; by default those that `snakemake
            --profile slurm` starts (slurm/config.yaml).
        site: the file with the site's settings.

    Raises:
        StudyError: one line per fault.
    """
    study = load_study(*(configs or started_configs()))
    check_run(study, read_site(site))
    print(f"study {study.study}: nothing found that would stop it on this cluster")


def check_run(study: Study, site: Site, status_command: str | None = None, trains: bool = True) -> None:
    """As `preflight`, for a study and a site that are already loaded.

    Args:
        study, site: as loaded.
        status_command: of Snakemake's options.
        trains: whether the run trains a model, and so needs a rehearsal before it.

    Raises:
        StudyError: one line per fault.
    """
    checks: list[Callable[[], Iterator[str]]] = [
        lambda: check_status_command(status_command),
        lambda: check_partitions(study, site),
        lambda: check_account(site),
        lambda: check_arrays(site),
        lambda: check_requests(study, site),
        lambda: check_folders(study, site),
        lambda: check_sources(study) if trains else iter(()),  # a rehearsal can do without
        lambda: check_rehearsal(study) if trains else iter(()),
        check_installed,
        lambda: check_orphans(Path.cwd()),
    ]
    faults: list[str] = []
    for check in checks:
        try:
            faults += check()
        except StudyError as error:
            faults.append(str(error))
    if faults:
        raise StudyError("\n".join(dict.fromkeys(faults)))


def check_status_command(status_command: str | None) -> Iterator[str]:
    """Without an accounting database, sacct waits forever and reports no error."""
    if status_command == "sacct" and not has_accounting():
        yield (
            "slurm-status-command: sacct, but this cluster has no accounting database and sacct would wait "
            "forever; remove the option, or set squeue"
        )


def check_partitions(study: Study, site: Site) -> Iterator[str]:
    """A job in a partition that does not exist, or whose time limit is too short, waits forever."""
    known = partition_minutes()
    listed = ", ".join(sorted(filter(None, known)))
    for partition in site.partitions:
        if partition not in known:
            yield f"{SITE_FILE}: partitions.{partition}: no such partition on this cluster (known: {listed})"
    for name, request in study.jobs.items():
        partition = site.partition(name, request) or ""
        if request.minutes > (most := known.get(partition, float("inf"))):
            where = f"partition {partition}" if partition else "the default partition"
            yield f"jobs.{name}: {request.minutes} minutes, but {where} allows {most:g} at most"
        if name in TRAINING_JOBS and request.minutes * 60 < site.warning_seconds + EARLIER:
            yield (
                f"{SITE_FILE}: warning_seconds: jobs.{name} has only {request.minutes} minutes and would be "
                f"warned at its start; set at most {max(1, request.minutes * 60 - EARLIER)}, or more minutes"
            )


def check_account(site: Site) -> Iterator[str]:
    """With accounting, jobs are charged to an account that must include the user."""
    if not has_accounting():
        return
    user = getpass.getuser()
    show = ("sacctmgr", "--noheader", "--parsable2", "show")
    printed = ask(*show, "associations", f"user={user}", "format=account")
    accounts = [account for (account,) in table_rows(printed, columns=1)]
    listed = ", ".join(sorted(set(accounts))) or "none"
    if site.account and site.account not in accounts:
        yield f"{SITE_FILE}: account: {user} has no account {site.account} (there are: {listed})"
    elif not site.account and not table_rows(ask(*show, "user", user, "format=defaultaccount"), columns=1):
        yield f"{SITE_FILE}: account: missing, and {user} has no default account (there are: {listed})"


def check_arrays(site: Site) -> Iterator[str]:
    """An array that is too large is refused, again and again."""
    found = configuration()
    size = re.match(r"\d+", found.get("MaxArraySize", ""))
    numbers = (int(size[0]) if size else ARRAY_SIZE) - 1  # from 1 to less than it
    script = re.search(r"\bmax_script_size=(\d+)", found.get("SchedulerParameters", ""))
    most = min(numbers, max(1, int(script[1]) // TASK_BYTES)) if script else numbers
    if numbers < 2:
        yield (
            f"MaxArraySize is {numbers + 1} on this cluster, and Snakemake's plugin needs arrays to start; "
            "ask the administrators for 3 or more"
        )
    elif site.largest_array > most:
        yield f"{SITE_FILE}: largest_array: {site.largest_array}, but this cluster allows {most}; lower it"


def check_requests(study: Study, site: Site) -> Iterator[str]:
    """A request that no node can meet waits forever; `sbatch --test-only` rejects it at once."""
    known = partition_minutes()
    requests: dict[tuple[str, ...], tuple[str, str | None]] = {}
    for name, request in study.jobs.items():
        partition = site.partition(name, request)
        processes = study.training.engine.processes if name in TRAINING_JOBS else 1
        requests.setdefault(tuple(sbatch_options(request, partition, site, processes)), (name, partition))
    for options, (name, partition) in requests.items():
        if partition and partition not in known:
            continue  # check_partitions reports it
        try:
            ask("sbatch", "--test-only", *options, "--wrap", "true")
        except StudyError as error:
            yield f"jobs.{name}: no node can run {' '.join(options)}: {error}"


def sbatch_options(request: JobRequest, partition: str | None, site: Site, processes: int) -> list[str]:
    """The options of sbatch for the first attempt of a job."""
    limits = site.partitions[partition] if partition else Partition()
    options = [f"--mem={request.memory_mb}", f"--time={request.minutes}"]
    options.append(f"--cpus-per-task={cpus_per_process(request, processes)}")
    if processes > 1:
        options += [
            f"--nodes={request.nodes}",
            f"--ntasks={processes}",
            *divide_evenly(request, processes, limits),
        ]
    if partition:
        options.append(f"--partition={partition}")
    if request.gpus:
        options.append(f"--gpus={f'{limits.gpu_type}:' if limits.gpu_type else ''}{request.gpus}")
    return options + ([f"--account={site.account}"] if site.account else [])


def check_folders(study: Study, site: Site) -> Iterator[str]:
    """Jobs write to results/ and Snakemake to .snakemake/: both must be writable, and have space."""
    for folder in (Path("results") / study.study, Path(".snakemake")):
        probe = folder / f".preflight.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with probe.open("wb") as file:
                file.write(BLOCK)
                os.fsync(file.fileno())
        except OSError as error:
            yield f"{folder}: cannot be written ({error.strerror}); free space there, or run elsewhere"
            continue
        finally:
            with suppress(OSError):
                probe.unlink()
        if (free := shutil.disk_usage(folder).free / GB) < site.free_gb:
            yield f"{folder}: {free:.1f} GB free, {SITE_FILE} requires free_gb: {site.free_gb:g}; free space"


def no_files(name: str, folder: str) -> str:
    """What to do about a pretrained source whose folder has no files."""
    advice = f"{name}: no files in {folder}; run `make sources`, or set its source to a folder"
    return f"{advice}, or give the repository's revision" if re.fullmatch(REPOSITORY, folder) else advice


def check_sources(study: Study) -> Iterator[str]:
    """Every pretrained source must exist or be in the lock, and the user's records must exist."""
    hub, records = study.hub_sources, study.user_records
    lock = Path(f"studies/{study.study}.lock.yaml")
    for name, files in records.items():
        if not Path(files.records).is_file() or not Path(files.pictures).is_dir():
            yield f"training.data.{name}: no {files.records} with {files.pictures}/; see docs/full-study.md"
    if (hub or records or study.evaluation.data == "hub") and not lock.is_file():
        yield f"{lock}: missing; run `snakemake lock_sources` on a machine with a network"
    if study.sources == "train":
        return
    sources = {f"encoders/{name}": study.encoders[name].source for name in study.pool}
    sources["language_model"] = study.language_model.source
    for name, folder in sources.items():
        if name not in hub and not any(file.is_file() for file in Path(folder).rglob("*")):
            yield no_files(name, folder)


def check_installed() -> Iterator[str]:
    """The installed packages must be those of the lock."""
    check_environment()
    yield from ()


def check_orphans(folder: Path) -> Iterator[str]:
    """Leftover jobs of an earlier Snakemake would write the same outputs as this run."""
    if jobs := queued_jobs(run_prefix(folder)):
        ids = ", ".join(job.id for job in jobs[:5]) + (", ..." if len(jobs) > 5 else "")
        yield (
            f"an earlier run of this checkout still has jobs in the queue ({ids}) that would write the same "
            "files; run `encoder-roles cancel-orphans`, or `await-orphans` to keep their outputs"
        )
