"""What containers start has the same meaning as what `wye up` starts."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement

from controlplane import app
from controlplane.cli import cli
from controlplane.settings import Settings
from controlplane.up import envoy, worker_host
from model_worker import host

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "xds", ["unix:/run/wye/control/xds.sock", "controlplane:18000", "10.0.0.1:1,10.0.0.2:1", "a:1,10.0.0.2:1"]
)
def test_the_entry_point_fills_in_the_bootstrap_as_wye_up_does(tmp_path: Path, xds: str) -> None:
    """The same file and the same addresses give Envoy the same bootstrap."""
    settings = Settings.read({"WYE_CONTROL_PLANES": xds}, state_dir=tmp_path)
    settings.run_dir.mkdir()
    try:
        theirs = yaml.safe_load(envoy.write_bootstrap(settings).read_text())
    finally:
        shutil.rmtree(settings.run_dir)  # may be in /tmp, where sockets' paths are short
    binary = tmp_path / "envoy"
    binary.write_text("#!/bin/sh\nprintf '%s' \"$2\"\n")
    binary.chmod(0o755)
    variables = {
        "ENVOY": str(binary),
        "WYE_NODE_ID": envoy.NODE_ID,
        "WYE_CONTROL_PLANES": xds,
        "WYE_ENVOY_ADMIN_ADDRESS": settings.envoy_admin_address,
    }
    ours = subprocess.run(
        ["sh", ROOT / "envoy" / "entrypoint.sh"],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert yaml.safe_load(ours.stdout) == theirs


def test_the_worker_host_alone_heeds_the_settings() -> None:
    """Its command line is one that the host understands, and sockets are where the host's own is."""
    settings = Settings.read(
        {"WYE_WORKER_HOST_ADDRESS": "unix:/run/wye/replicas/host.sock", "WYE_REPLICA_MEMORY": "1,2,3"},
        state_dir=Path("/var/lib/wye"),
    )
    options = host.parse(worker_host.command(settings)[3:])
    assert (options.listen, str(options.socket_dir)) == ("unix:/run/wye/replicas/host.sock", "/run/wye/replicas")
    assert options.stop_grace == settings.stop_grace
    assert str(options.artifacts_dir) == "/var/lib/wye/artifacts-cache"
    assert options.allowances["Large"].memory == 3 << 20


def test_a_control_plane_by_itself_shows_the_admins_token_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In its log when it is made, and from then on to who may read the state directory."""
    settings = Settings.read({"WYE_PUBLIC_URL": "http://envoy:8080"}, state_dir=tmp_path)
    with caplog.at_level(logging.INFO):
        app.introduce(settings)
        app.introduce(settings)
    token = json.loads((tmp_path / "wye.json").read_text())["token"]
    assert [token in record.getMessage() for record in caplog.records] == [True]
    shown = CliRunner().invoke(cli, ["tokens", "admin", "--state-dir", str(tmp_path)])
    assert shown.stdout.strip() == token


def test_the_images_versions_are_ones_that_wye_allows() -> None:
    """Each dependency is pinned, within its range in pyproject.toml."""
    lines = (ROOT / "docker" / "versions.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["postgres"]]
    refused = [str(each) for each in wanted if pinned.get(each.name) not in each.specifier]
    assert refused == []
