"""Sweeps and multiruns on a cluster: what is handed over is what its tools take."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from lab.config import hydra_settings
from lab.errors import RequestError
from lab.runs.sweep.slurm import script

URL = "postgresql://lab@db/sweeps"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "two words.yaml"
    parameters = {"attention": {"values": ["mha", "mqa"]}}
    path.write_text(
        yaml.safe_dump({"method": "grid", "command": ["lab", "train", "${args}"], "parameters": parameters})
    )
    return path


def test_an_array_runs_the_same_command_once_a_task(lab, file, tmp_path):
    """With a stand-in for srun that tells what it was asked to run."""
    words = [str(file), "model.dim=32", "--storage", URL, "--folder", "a b"]
    written = lab("sweep", *words, "--slurm", "3").out
    assert written == lab("sweep", "--slurm=3", *words).out
    assert "#SBATCH --array=1-3\n" in written
    (tmp_path / "srun").write_text(
        f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([os.getcwd(), *sys.argv[1:]]))\n"
    )
    (tmp_path / "srun").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash"], input=written, env=environment, cwd="/", capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [str(tmp_path), sys.executable, "-m", "lab", "sweep", *words]


@pytest.mark.parametrize(
    ("workers", "storage", "named"),
    [(0, URL, "from 1"), (2, None, "add --storage"), (2, "sqlite:///study.db", "one machine's")],
)
def test_an_array_that_could_share_nothing_is_refused(file, workers, storage, named):
    with pytest.raises(RequestError, match=named):
        script(file, [str(file)], workers, storage)


def test_submitit_takes_the_launcher_of_slurm():
    from submitit.slurm.slurm import _make_sbatch_string

    launcher = hydra_settings(["hydra/launcher=slurm"]).launcher
    assert launcher._target_.endswith(".SlurmLauncher")
    written = _make_sbatch_string(
        command="true",
        folder="jobs",
        time=launcher.timeout_min,
        job_name=launcher.name,
        cpus_per_task=launcher.cpus_per_task,
        ntasks_per_node=launcher.tasks_per_node,
        map_count=20,
        array_parallelism=launcher.array_parallelism,
    )
    assert "#SBATCH --array=0-19%16" in written
    assert "#SBATCH --cpus-per-task=4" in written


def test_rays_launcher_gets_settings_that_it_has():
    """Its option as its plugin declares it: ray.init and ray.remote, both free."""
    from hydra.core.config_store import ConfigStore

    node = {"_target_": "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher", "ray": {"init": {}, "remote": {}}}
    store = ConfigStore.instance()
    store.store(group="hydra/launcher", name="ray", node=node)
    try:
        launcher = hydra_settings(["hydra/launcher=ray_cluster"]).launcher
    finally:
        del store.repo["hydra"]["launcher"]["ray.yaml"]
    assert launcher._target_ == node["_target_"]
    assert launcher.ray == {"init": {"address": "auto", "object_store_memory": None}, "remote": {"num_cpus": 4}}


def test_a_launcher_that_is_not_installed_is_named_with_its_package(lab, monkeypatch):
    message = "In 'hydra/launcher/ray_cluster': Could not load 'hydra/launcher/ray'."

    def missing(overrides):
        raise RequestError(message)

    monkeypatch.setattr("lab.config.hydra_settings", missing)
    ended = lab("train", "-m", "hydra/launcher=ray_cluster", "preset=tiny", "seed=0,1")
    assert ended.code == 2
    assert "pip install 'hydra-ray-launcher'" in ended.err


@pytest.mark.parametrize(
    "name",
    [pytest.param("joblib", marks=pytest.mark.long), pytest.param("submitit_local", marks=pytest.mark.long)],
)
def test_launchers_run_a_multirun(lab, small, name):
    words = ("hydra.launcher.n_jobs=2",) if name == "joblib" else ("hydra.launcher.timeout_min=5",)
    ended = lab("train", "-m", f"hydra/launcher={name}", *words, small, "seed=0,1", "hydra.sweep.dir=many", "--json")
    assert [(run["status"], run["seed"]) for run in ended.json] == [("finished", 0), ("finished", 1)]
