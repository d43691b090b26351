"""The recipes of pipelines/cloud start this project's commands as they are: flags, paths, users and names fit."""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.run as torchrun
import tyro
import yaml

from pipelines.flags_page import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
CLOUD = ROOT / "pipelines" / "cloud"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SLURM = CLOUD / "slurm.sh"


def documents(name: str) -> list[dict[str, Any]]:
    return [part for part in yaml.safe_load_all((CLOUD / name).read_text(encoding="utf-8")) if part]


def compose() -> dict[str, Any]:
    (found,) = documents("compose.yaml")
    return found


def job() -> dict[str, Any]:
    (found,) = (part for part in documents("kubernetes.yaml") if part["kind"] == "Job")
    return found


def pod() -> dict[str, Any]:
    found: dict[str, Any] = job()["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return dict(found)


def commands_of(script: str, **values: str) -> list[list[str]]:
    """Return each command of a script as words, with variables replaced by values, or by 1."""
    script = re.sub(r"\$\{?(\w+)(:-[^}]*)?\}?", lambda found: values.get(found[1], "1"), script.replace("\\\n", " "))
    return [shlex.split(line, comments=True) for line in script.splitlines() if line.strip()]


def all_commands() -> dict[str, list[str]]:
    (sky,) = documents("skypilot.yaml")
    paths = "--competition svhn --input-dir /podium/input --runs-dir /podium/runs"
    found = {f"skypilot {i}": c for i, c in enumerate(commands_of(sky["run"], paths=paths, FLAGS="--epochs 3"))}
    (line,) = (text for text in SLURM.read_text(encoding="utf-8").splitlines() if "src.train --fold" in text)
    found["slurm"] = shlex.split(line.replace('"$@" &', ""))
    (launch,) = re.findall(r"launch=\((torchrun .*)\)", SLURM.read_text(encoding="utf-8"))
    found["slurm ranks"] = [*shlex.split(launch.replace('"$ranks"', "4")), "-m", "src.train"]
    found["slurm"] = [word if "$" not in word else "1" for word in found["slurm"]]
    found["kubernetes"] = container()["args"]
    for name, service in compose()["services"].items():
        found[f"compose {name}"] = shlex.split(service["command"])
    return {name: words for name, words in found.items() if re.search(r"src\.\w|torchrun|^prepare$", " ".join(words))}


@pytest.mark.parametrize("name", sorted(all_commands()))
def test_the_flags_of_each_recipe_are_those_of_the_command(name: str) -> None:
    words = all_commands()[name]
    if words[0] == "torchrun" or "torch.distributed.run" in words:
        first = 1 if words[0] == "torchrun" else words.index("torch.distributed.run") + 1
        parsed = torchrun.get_args_parser().parse_args(words[first:])
        assert parsed.module
        module, flags = parsed.training_script, parsed.training_script_args
    elif "-m" in words:
        module, flags = words[words.index("-m") + 1], words[words.index("-m") + 2 :]
    else:  # the image's entrypoint
        module, flags = f"src.{words[0]}", words[1:]
    tyro.cli(COMMANDS[module.removeprefix("src.")], args=flags)


def test_every_recipe_trains() -> None:
    names = {name.split()[0] for name, words in all_commands().items() if "src.train" in words}
    assert names == {"skypilot", "slurm", "kubernetes", "compose"}


def test_mounts_and_user_are_those_of_the_image() -> None:
    (folders,) = re.findall(r"&& mkdir -p ([\w ]+) ", DOCKERFILE)
    (workdir,) = re.findall(r"^WORKDIR (\S+)", DOCKERFILE, flags=re.MULTILINE)
    known = {f"{workdir}/{name}" for name in folders.split()}
    mounts = {mount["mountPath"] for mount in container()["volumeMounts"]} - {"/dev/shm"}
    assert {f"{workdir}/runs", f"{workdir}/input"} <= mounts <= known
    for service in compose()["services"].values():
        targets = {volume.split(":")[1] for volume in service["volumes"]}
        assert {f"{workdir}/runs", f"{workdir}/input"} <= targets <= known
        assert (CLOUD / service["build"] / "Dockerfile").is_file()
    user, group = re.findall(r"^USER (\d+):(\d+)", DOCKERFILE, flags=re.MULTILINE)[-1]
    context = pod()["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))
    assert all(service["user"].count(f":-{user}}}") for service in compose()["services"].values())


def test_ranks_of_the_kubernetes_job_meet_at_its_first_pod() -> None:
    spec, parts = job()["spec"], documents("kubernetes.yaml")
    (service,) = (part for part in parts if part["kind"] == "Service")
    args = dict(arg.lstrip("-").split("=", 1) for arg in container()["args"] if "=" in arg)
    assert spec["completions"] == spec["parallelism"] == int(args["nnodes"])
    assert container()["resources"]["limits"]["nvidia.com/gpu"] == int(args["nproc-per-node"])
    host, port = args["rdzv-endpoint"].split(":")
    assert host == f"{job()['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod()["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job()["metadata"]["name"]}
    assert [int(port)] == [entry["port"] for entry in service["spec"]["ports"]]
    claims = {part["metadata"]["name"] for part in parts if part["kind"] == "PersistentVolumeClaim"}
    assert {v["persistentVolumeClaim"]["claimName"] for v in pod()["volumes"] if "persistentVolumeClaim" in v} == claims


def test_the_containers_of_compose_meet_at_the_first_one() -> None:
    nodes = {name: service for name, service in compose()["services"].items() if name != "prepare"}
    for name, service in nodes.items():
        words = shlex.split(service["command"])
        assert service["hostname"] == name
        assert words[words.index("--rdzv-endpoint") + 1].split(":")[0] in nodes
        assert int(words[words.index("--nnodes") + 1]) == len(nodes)
    (gpu,) = documents("compose.gpu.yaml")
    assert set(gpu["services"]) == set(nodes)


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which python and scontrol write down how they were called."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    python = 'echo "python $*" >> calls; trap "echo saved >> calls; exit 143" TERM; while :; do sleep 0.02; done'
    for name, body in (("python", python), ("scontrol", 'echo "scontrol $*" >> calls')):
        (bin_ / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (bin_ / name).chmod(0o755)
    task = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_JOB_ID": "31", "RUN_NAME": "big", "VIRTUAL_ENV": "/none"}
    return {"PATH": f"{bin_}:{os.environ['PATH']}", **task}


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_slurm_task_saves_its_step_and_is_queued_again_if_its_time_is_up(
    tmp_path: Path, slurm: dict[str, str], number: int, requeued: bool
) -> None:
    command = ["bash", str(SLURM), "--epochs", "3"]
    calls = tmp_path / "calls"
    with subprocess.Popen(command, cwd=tmp_path, env=slurm, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not calls.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(20) == 143
    expected = ["python -m src.train --fold 2 --seed 1 --run-name big-s1 --epochs 3", "saved"]
    assert calls.read_text().splitlines() == expected + ["scontrol requeue 31_7"] * requeued
