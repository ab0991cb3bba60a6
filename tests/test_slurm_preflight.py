"""What would make jobs wait for ever is told before a run: with fake commands and with a real Slurm."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from slurm_cluster import ACCOUNT, Cluster
from snakemake_executor_plugin_slurm.job_status_query import query_job_status_sacct

from encoder_roles.cluster import preflight
from encoder_roles.cluster.profile import open_profile, profile_or_exit, started_configs
from encoder_roles.cluster.site import MARK, Site, active_site, job_resources, launcher, read_site
from encoder_roles.cluster.slurm import fitting_status_command, in_minutes, run_prefix
from encoder_roles.planning import limits, plan
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.names import JOBS, StudyError
from encoder_roles.study.sections import JobRequest

ROOT = Path(__file__).resolve().parent.parent
SITE = {"account": "vision", "partitions": {"cpu": {}, "gpu": {"gpus": 2}}, "free_gb": 0}
CONFIG = "AccountingStorageType = accounting_storage/{}\\nMinJobAge = 300 sec\\nMaxArraySize = 1001"
FAKES = {  # what each command of a healthy site with accounting prints
    "scontrol": CONFIG.format("slurmdbd"),
    "sinfo": "cpu*|1-00:00:00\\ngpu|infinite",
    "sacctmgr": "vision",
    "squeue": "",
    "sbatch": "",
}
Fake = Callable[..., None]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a site, sources and an environment's lock, on a healthy fake cluster."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/site.yaml").write_text(yaml.safe_dump(SITE))
    (tmp_path / "sources").symlink_to(ROOT / "sources")
    (tmp_path / "envs").mkdir()
    for lock in (ROOT / "envs").glob("laptop*.lock"):
        shutil.copy(lock, tmp_path / "envs")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    for name, output in FAKES.items():
        fake_command(tmp_path, name, output)
    return tmp_path


def fake_command(place: Path, name: str, output: str, status: int = 0, to: int = 1) -> None:
    """A command of Slurm's that says this and ends with this."""
    script = place / "bin" / name
    script.write_text(f"#!/bin/sh\nprintf '%b\\n' '{output}' >&{to}\nexit {status}\n")
    script.chmod(0o755)


def study(**overrides: object) -> Study:
    """The laptop study with some keys of it replaced."""
    Path("override.yaml").write_text(yaml.safe_dump({"rehearsal": "optional"} | overrides))
    return load_study(Path("config.yaml"), Path("override.yaml"))


def faults(study: Study, **changes: object) -> list[str]:
    """The lines that preflight says."""
    site = Site.model_validate({**SITE, **changes})
    try:
        preflight.check_run(study, site)
    except StudyError as error:
        return str(error).splitlines()
    return []


def test_a_healthy_site_passes(place: Path) -> None:
    assert faults(study()) == []


def test_an_unknown_partition_is_named_with_those_that_there_are(place: Path) -> None:
    (fault,) = faults(study(), partitions={"cpu": {}, "gpus": {"gpus": 2}})
    assert "partitions.gpus: no such partition" in fault and "cpu, gpu" in fault


def test_an_impossible_request_is_named_once_with_its_job_and_slurms_words(place: Path) -> None:
    fake_command(place, "sbatch", "Requested node configuration is not available", 1, to=2)
    jobs = {"predict_masks": {"gpus": 2, "memory_mb": 9_000_000}}
    lines = faults(study(jobs=jobs))
    of_gpus = [line for line in lines if "--gpus=2" in line]
    assert len(of_gpus) == 1 and of_gpus[0].startswith("jobs.predict_masks: no node can run")
    assert all("Requested node configuration is not available" in line for line in lines)
    assert len(lines) < 15, "one line for equal requests"


def test_a_study_on_gpus_that_was_not_rehearsed_trains_nothing_and_may_be_rehearsed(place: Path) -> None:
    on_gpus = study(rehearsal="required", jobs={"predict_masks": {"gpus": 2}})
    (fault,) = faults(on_gpus)
    assert "no rehearsal of" in fault and "snakemake --profile slurm -- rehearse" in fault
    preflight.check_run(on_gpus, Site.model_validate(SITE), trains=False)
    assert faults(study(rehearsal="required")) == []  # its jobs request no GPU


def test_a_job_that_no_partition_takes_is_named(place: Path) -> None:
    (fault,) = faults(study(jobs={"predict_masks": {"gpus": 4}}))
    assert "partitions: none accepts jobs of predict_masks with 4 GPUs" in fault


def test_an_account_that_the_user_lacks_is_named(place: Path) -> None:
    (fault,) = faults(study(), account="physics")
    assert "account" in fault and "physics" in fault and "vision" in fault


def test_a_missing_account_without_a_default_is_told(place: Path) -> None:
    fake_command(place, "sacctmgr", "")
    (fault,) = faults(study(), account=None)
    assert "account: missing" in fault and "no default account" in fault


@pytest.mark.parametrize(
    ("size", "parameters", "largest", "fault"),
    [
        (101, "", 100, None),
        (100, "", 100, "slurm/site.yaml: largest_array: 100, but this cluster allows 99; lower it"),
        (1001, "bf_continue,max_script_size=80000", 100, "largest_array: 100, but this cluster allows 10"),
        (1001, "bf_continue,max_script_size=80000", 10, None),
        (3, "", 1, None),
        (2, "", 1, "MaxArraySize is 2 on this cluster"),
    ],
)
def test_an_array_that_the_cluster_would_refuse_is_told(
    place: Path, size: int, parameters: str, largest: int, fault: str | None
) -> None:
    scontrol = CONFIG.format("slurmdbd").replace("1001", str(size))
    fake_command(place, "scontrol", f"{scontrol}\\nSchedulerParameters = {parameters}")
    lines = faults(study(), largest_array=largest)
    assert (lines == []) if fault is None else (len(lines) == 1 and fault in lines[0]), lines


def test_sacct_without_accounting_is_told_before_it_waits_for_ever(place: Path) -> None:
    fake_command(place, "scontrol", CONFIG.format("none"))
    with pytest.raises(StudyError, match="slurm-status-command: sacct, but this cluster has no accounting"):
        preflight.check_run(study(), Site.model_validate(SITE), status_command="sacct")


def test_the_status_command_is_the_one_that_can_answer(place: Path) -> None:
    assert fitting_status_command(20) == "sacct"
    fake_command(place, "scontrol", CONFIG.format("none"))
    assert fitting_status_command(20) == "squeue"
    with pytest.raises(StudyError, match=r"after 300 s \(MinJobAge\); lower status_seconds .* to 100"):
        fitting_status_command(101)
    fake_command(place, "scontrol", CONFIG.format("none").replace("300", "120"))
    with pytest.raises(StudyError, match="after 120 s: 240 are needed"):
        fitting_status_command(20)


def test_the_profile_takes_what_it_says_from_the_site_and_the_cluster(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, "")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    (place / "slurm/site.yaml").write_text("{jobs_a_minute: 7, warning_seconds: 90, modules: [cuda/12]}")
    profile = open_profile()
    assert active_site() == profile.site, "a job knows by its environment that it runs on a site"
    assert (profile.status_command, profile.rate, profile.precommand) == (
        "sacct",
        "7/1m",
        "module load cuda/12",
    )
    assert profile.prefix == run_prefix(place)
    request = JobRequest(memory_mb=1, minutes=9)
    warned = {name for name in JOBS if "slurm_extra" in job_resources(name, request, profile.site)}
    assert warned == {"train_align", "train_tune"}
    assert job_resources("train_tune", request, profile.site)["slurm_extra"] == "--signal=USR1@90"


@pytest.fixture
def with_sacct(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site whose profile has been opened: the sacct that Snakemake finds is the one in slurm/bin."""
    shutil.copytree(ROOT / "slurm/bin", place / "slurm/bin")
    monkeypatch.setenv(MARK, "")
    monkeypatch.setenv("PATH", os.environ["PATH"])
    open_profile()
    return place


def test_a_job_that_somebody_cancelled_has_ended_for_snakemake_too(with_sacct: Path) -> None:
    fake_command(with_sacct, "sacct", "17|COMPLETED\\n18|CANCELLED by 0")
    assert subprocess.check_output(["sacct", "-X"], text=True) == "17|COMPLETED\n18|CANCELLED\n"
    fake_command(with_sacct, "sacct", "", 3)
    assert subprocess.run(["sacct"]).returncode == 3


def test_a_task_of_an_array_is_asked_for_by_its_own_id(with_sacct: Path) -> None:
    fake_command(with_sacct, "sacct", "")
    (with_sacct / "bin/sacct").write_text('#!/bin/sh\necho "$@"\n')
    output = subprocess.check_output(shlex.split(query_job_status_sacct("a run")), text=True)
    assert "--format=JobID,State" in output.split() and output.endswith("--name a run\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which takes root")
def test_a_full_disk_is_told(place: Path) -> None:
    results = place / "results/laptop"
    results.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(results)], check=True)
    try:
        (fault,) = faults(study())
    finally:
        subprocess.run(["umount", str(results)], check=True)
    assert "results/laptop: cannot be written (No space left on device)" in fault


def test_too_little_room_is_told_with_how_much_there_is(place: Path) -> None:
    lines = faults(study(), free_gb=1e6)
    assert len(lines) == 2 and all("GB free" in line and "free_gb: 1e+06" in line for line in lines)


def test_a_folder_that_takes_no_files_is_told(place: Path) -> None:
    (place / "results").write_text("a file where the folder should be")
    (fault,) = faults(study())
    assert fault.startswith("results/laptop: cannot be written (Not a directory")


def test_a_missing_source_folder_is_told(place: Path) -> None:
    (fault,) = faults(study(encoders={"sam": {"source": "sources/laptop/encoders/nowhere"}}))
    assert fault.startswith("encoders/sam: no files in sources/laptop/encoders/nowhere")


def test_records_that_are_not_there_are_told_with_their_lock(place: Path) -> None:
    own = {name: {"records": f"{name}.json", "pictures": "pictures"} for name in ("align", "tune", "probe")}
    (place / "pictures").mkdir()
    (place / "tune.json").write_text("[]")
    lines = faults(study(training={"data": own}))
    assert [fault.split(":")[0] for fault in lines] == [
        "training.data.align",
        "training.data.probe",
        "studies/laptop.lock.yaml",
    ]


def test_a_source_of_a_hub_without_its_lock_is_told(place: Path) -> None:
    (fault,) = faults(study(encoders={"sam": {"source": "owner/sam", "revision": "main"}}))
    assert fault.startswith("studies/laptop.lock.yaml: missing")


def test_an_environment_that_is_not_the_locks_is_told(place: Path) -> None:
    for lock in (place / "envs").glob("*.lock"):
        lock.write_text(lock.read_text() + "no-such-package==1.0\n")
    (fault,) = faults(study())
    assert "was made from another envs/laptop" in fault and "make environment" in fault


def test_a_partition_too_short_for_a_job_is_told(place: Path) -> None:
    (fault,) = faults(study(jobs={"assign_roles": {"minutes": 1441}}))
    assert fault == "jobs.assign_roles: 1441 minutes, but partition cpu allows 1440 at most"


def test_a_warning_that_would_come_as_a_job_starts_is_told(place: Path) -> None:
    (fault,) = faults(study(jobs={"train_tune": {"minutes": 5}}), warning_seconds=300)
    assert "warning_seconds: jobs.train_tune has only 5 minutes" in fault and "at most 240" in fault
    assert faults(study(jobs={"train_tune": {"minutes": 5}}), warning_seconds=240) == []


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("infinite", math.inf), ("1-00:00:00", 1440), ("2:30:00", 150), ("30:00", 30), ("n/a", math.inf)],
)
def test_a_time_limit_is_read_in_every_form_of_slurms(limit: str, minutes: float) -> None:
    assert in_minutes(limit) == minutes


def test_jobs_of_an_earlier_run_are_told_and_others_are_not_ours(place: Path) -> None:
    ours = f"12_3|{run_prefix(place)}_1a2b|RUNNING|rule_train_tune"
    fake_command(place, "squeue", f"{ours}\\n13|somebody_1a2b|RUNNING|rule_train_tune")
    (fault,) = faults(study())
    assert (
        fault.startswith("an earlier run of this checkout still has jobs")
        and "(12_3)" in fault
        and "cancel-orphans" in fault
    )


def test_slurm_that_is_not_there_is_told_once(place: Path) -> None:
    for name in FAKES:
        (place / "bin" / name).unlink()
    os.environ["PATH"] = f"{place}/bin"
    lines = faults(study())
    assert all("no such program" in line for line in lines) and len(lines) == len(set(lines))


def test_every_fault_is_told_in_one_call_that_fails(place: Path) -> None:
    (place / "slurm/site.yaml").write_text(yaml.safe_dump({**SITE, "account": "physics", "free_gb": 1e6}))
    command = [str(Path(sys.executable).with_name("encoder-roles")), "preflight", "--configs", "config.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "physics" in done.stderr and "GB free" in done.stderr
    assert len(done.stderr.splitlines()) == 3


def test_an_unknown_key_of_the_site_is_an_error(place: Path) -> None:
    (place / "slurm/site.yaml").write_text("acount: vision")
    with pytest.raises(StudyError, match=r"slurm/site\.yaml: acount: unknown key"):
        read_site(Path("slurm/site.yaml"))


def test_a_job_goes_to_the_first_partition_that_takes_it_and_grows_with_its_attempts() -> None:
    partitions = {"cpu": {"max_minutes": 100}, "gpu": {"gpus": 4, "gpu_type": "h100", "max_memory_mb": 5000}}
    site = Site.model_validate({"partitions": partitions, "account": "vision"})
    small = job_resources("train_tune", JobRequest(memory_mb=2000, minutes=60), site)
    large = job_resources("train_tune", JobRequest(memory_mb=2000, minutes=60, gpus=4, cpus=8), site)
    assert (small["slurm_partition"], large["slurm_partition"]) == ("cpu", "gpu")
    assert "gpu" not in small and (large["gpu"], large["gpu_model"], large["cpus_per_task"]) == (4, "h100", 8)
    assert [small["runtime"](None, attempt) for attempt in (1, 2)] == [60, 100], "up to the partition's limit"
    assert [large["mem_mb"](None, attempt) for attempt in (1, 2, 3)] == [2000, 4000, 5000]
    assert "slurm_partition" not in job_resources("train_tune", JobRequest(memory_mb=1, minutes=1), None)


def test_the_ranks_of_a_training_are_started_by_srun_and_divided_evenly_among_its_nodes() -> None:
    site = Site.model_validate({"partitions": {"gpu": {"gpus": 16, "gpu_type": "h100"}}})
    request = JobRequest(memory_mb=2000, minutes=60, gpus=16, cpus=128, nodes=2)
    resources = job_resources("train_tune", request, site, processes=16)
    assert (resources["mpi"], resources["tasks"], resources["nodes"], resources["cpus_per_task"]) == (
        "srun",
        16,
        2,
        8,
    )
    assert resources["slurm_extra"].split()[1:] == ["--ntasks-per-node=8", "--gpus-per-node=h100:8"]
    words = launcher(request, 16, site)
    assert words[0] == "srun" and {"--ntasks=16", "--nodes=2", "--ntasks-per-node=8"} < set(words)
    assert launcher(request, 16, None) == launcher(request, 1, site) == []
    assert "mpi" not in job_resources("predict_masks", request, site)


def use(cluster: Cluster, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fakes away and speak to a real cluster."""
    shutil.rmtree(place / "bin")
    for key, value in cluster.environment.items():
        monkeypatch.setenv(key, value)


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("partitions", "jobs", "fault"),
    [
        ({"cpu": {}}, {}, None),
        ({"cpu": {}, "gpu": {"gpus": 8}}, {"extract_features": {"gpus": 2}}, None),
        ({"night": {}}, {}, "partitions.night: no such partition on this cluster (known: cpu, gpu)"),
        (
            {"cpu": {}, "gpu": {"gpus": 8}},
            {"predict_masks": {"gpus": 3}},
            "jobs.predict_masks: no node can run",
        ),
        ({"cpu": {}}, {"assign_roles": {"memory_mb": 10**6}}, "jobs.assign_roles: no node can run"),
        ({"gpu": {"gpus": 8, "gpu_type": "h100"}}, {"train_tune": {"gpus": 1}}, "--gpus=h100:1"),
        (
            {"cpu": {}},
            {"train_tune": {"minutes": 1441}},
            "jobs.train_tune: 1441 minutes, but partition cpu allows",
        ),
    ],
)
def test_a_real_slurm_is_asked_whether_it_can_ever_run_the_jobs(
    place: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    partitions: object,
    jobs: object,
    fault: str,
) -> None:
    use(cluster, place, monkeypatch)
    lines = faults(study(jobs=jobs), account=None, partitions=partitions)
    assert (lines == []) if fault is None else (len(lines) == 1 and fault in lines[0]), lines


@pytest.mark.slurm
def test_a_real_slurm_is_asked_for_its_accounts(
    place: Path, accounting_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(accounting_cluster, place, monkeypatch)
    assert fitting_status_command(20) == "sacct"
    assert faults(study(), account=ACCOUNT) == []
    lines = faults(study(), account="physics")
    assert "has no account physics (there are: " in lines[0] and ACCOUNT in lines[0]


# --- what starts is what was checked, and no more than its user agreed to ---


def test_preflight_checks_the_study_that_the_profile_starts(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started_configs(ROOT / "slurm/config.yaml")[1] == ROOT / "studies/cambrian.yaml"
    page = (ROOT / "docs/cluster.md").read_text()
    assert "`studies/cambrian.yaml`, until you" in " ".join(page.splitlines())
    (place / "slurm/config.yaml").write_text("executor: slurm-arrays\nconfigfile: ../own.yaml # mine\n")
    (place / "own.yaml").write_text("study: own\n")
    checked: list[str] = []
    monkeypatch.setattr(preflight, "check_run", lambda study, site: checked.append(study.study))
    preflight.preflight()
    assert checked == ["own"] and "study own: nothing found" in capsys.readouterr().out
    (place / "slurm/config.yaml").write_text("configfile: ../config.yaml\n")
    assert started_configs() == (Path("config.yaml"),)


def test_the_profile_without_slurm_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "bin/scontrol").unlink()
    monkeypatch.setenv("PATH", str(place / "bin"))
    monkeypatch.setenv(MARK, "")  # opening the profile sets it, for its jobs and not for the next test
    with pytest.raises(SystemExit, match="error: --profile slurm: scontrol: no such program") as error:
        profile_or_exit()
    assert "\n" not in str(error.value) and "`make paper` runs a study without Slurm" in str(error.value)


@pytest.fixture
def large_study(place: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study with GPU jobs, planned at 2,500 hours, 50 GB of results and checkpoints of 12 GB."""
    rules = [{"rule": "train_tune", "jobs": 32, "device_hours": 2500.0, "disk_gb": 50.0}]
    monkeypatch.setattr(plan, "plan_rows", lambda study: (rules, [{"trained": 10**9}, {"trained": 10**8}]))
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda path: SimpleNamespace(free=1300 * 10**9))
    study = load_study(Path("config.yaml"))
    return study.model_copy(update={"jobs": {"train_tune": JobRequest(memory_mb=1000, minutes=60, gpus=8)}})


def test_a_study_of_many_gpu_hours_waits_until_its_user_agrees(large_study: Study) -> None:
    limits.check_limits(load_study(Path("config.yaml")), None)  # its jobs request no GPU
    for site in (None, read_site()):
        with pytest.raises(StudyError, match=r"about 2,500 hours .* more than the 100 in slurm/site.yaml"):
            limits.check_limits(large_study, site)
    limits.check_limits(large_study, Site(gpu_hours=3000))


def test_the_checkpoints_of_all_trainings_at_once_must_fit_the_disk(
    large_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 trainings hold three checkpoints of 12 GB each, beside 50 GB of results: 1,202 GB."""
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda path: SimpleNamespace(free=1200 * 10**9))
    with pytest.raises(StudyError, match=r"1,200 GB free, but the study keeps 50 GB, and 32 trainings"):
        limits.check_limits(large_study, Site(gpu_hours=3000))
    limits.check_limits(large_study, Site(gpu_hours=3000, jobs=31))


def test_a_warned_training_has_the_time_to_write_a_checkpoint(large_study: Study) -> None:
    site = Site(gpu_hours=3000, write_gb_per_second=0.1, warning_seconds=239)
    with pytest.raises(StudyError, match=r"a checkpoint of 12 GB takes 120 s at 0\.1 GB/s .* at least 240"):
        limits.check_limits(large_study, site)
    limits.check_limits(large_study, site.model_copy(update={"warning_seconds": 240}))


def test_a_training_requests_the_host_memory_that_its_processes_hold(
    large_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"rule": "tune_variant", "jobs": 1, "device_hours": 1.0, "disk_gb": 1.0, "host_gb": 2.0}
    monkeypatch.setattr(plan, "plan_rows", lambda study: ([rule], [{"trained": 10**6}]))
    with pytest.raises(StudyError, match=r"jobs\.train_tune\.memory_mb: 1,000, .* hold 2 GB .* 2,200"):
        limits.check_limits(large_study, Site())
    jobs = {"train_tune": JobRequest(memory_mb=2200, minutes=60, gpus=8)}
    limits.check_limits(large_study.model_copy(update={"jobs": jobs}), Site())


def test_the_check_of_limits_costs_a_run_of_small_jobs_no_second() -> None:
    """The Snakefile imports it at every start, and torch takes ten seconds."""
    code = "import sys, encoder_roles.planning.limits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
