"""What a model's folder says that it needs, and when the base environment is enough; pip's configuration for uv."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_worker import indexes, requirements
from model_worker.requirements import Needs

HERE = {"mlflow": "3.17.2", "cloudpickle": "3.1.2", "scikit-learn": "1.7.2", "numpy": "2.3.5", "torch": "2.6.0+cpu"}


def unmet(*lines: str, python: str = "3.11.7", constraints: tuple[str, ...] = ()) -> list[str]:
    """What is missing on Python 3.11.2 with the packages above."""
    return requirements.unmet(Needs(Path("/m"), python, lines, constraints), "3.11.2", HERE.get)


@pytest.mark.parametrize(
    "line",
    [
        "scikit-learn==1.7.2",
        "scikit_learn<2",
        "numpy",
        "torch==2.6.0",
        "mlflow==3.4.0",
        "cloudpickle==3.0.0",
        'pywin32==306; sys_platform == "win32"',
        "--extra-index-url https://example.org/simple",
    ],
)
def test_what_the_base_environment_meets(line: str) -> None:
    """Versions that fit, loaders pinned to an older release of the same major version, and what other systems need."""
    assert unmet(line) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("scikit-learn==1.7.1", "scikit-learn==1.7.1 (installed: 1.7.2)"),
        ("six==1.16.0", "six==1.16.0 (not installed)"),
        ("mlflow==2.22.0", "mlflow==2.22.0 (installed: 3.17.2)"),
        ("mlflow==3.18.0", "mlflow==3.18.0 (installed: 3.17.2)"),
        ("mlflow<3.5", "mlflow<3.5 (installed: 3.17.2)"),
        ("git+https://example.org/x.git", "git+https://example.org/x.git (cannot be compared with what is installed)"),
        ("code/own-1.0-py3-none-any.whl", "code/own-1.0-py3-none-any.whl (cannot be compared with what is installed)"),
        ("-e .", "-e ."),
    ],
)
def test_what_it_does_not_meet(line: str, reason: str) -> None:
    """Every other pin is kept to the letter, and the reason names both versions."""
    assert unmet(line) == [reason]


def test_python_may_differ_in_its_patch_level_only() -> None:
    """3.11.7 is as good as 3.11.2; 3.12 is not."""
    assert unmet(python="3.11.9") == unmet(python="") == []
    assert unmet(python="3.12.1") == ["Python 3.12.1 (this is 3.11.2)"]


def test_a_constraint_matters_for_what_is_there() -> None:
    """A constraint on a package that is not needed is no reason for anything."""
    assert unmet("numpy", constraints=("six==1.0", "numpy<3")) == []
    assert unmet("numpy", constraints=("numpy<2",)) == ["numpy<2 (installed: 2.3.5)"]


def test_extras_are_looked_into() -> None:
    """An extra is met when what it adds is there."""
    needs = Needs(Path("/m"), lines=("httpx[http2]", "pytest-xdist[psutil]"))
    found = requirements.unmet(needs, "3.11.2", lambda name: None if name == "h2" else requirements.installed(name))
    assert found == ["h2<5,>=3 (not installed)"]


def test_requirements_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    """Comments, continued lines, hashes, included files and constraints."""
    (tmp_path / "requirements.txt").write_text(
        "# all of it\n-r more.txt\n-cconstraints.txt\nnumpy==2.3.5 \\\n    --hash=sha256:abc\nsix  # small\n"
    )
    (tmp_path / "more.txt").write_text("mlflow\n-r requirements.txt\n")
    (tmp_path / "constraints.txt").write_text("pandas<4\n")
    (tmp_path / "python_env.yaml").write_text("python: 3.11.7\ndependencies: [-r requirements.txt]\n")
    assert requirements.read(tmp_path) == Needs(tmp_path, "3.11.7", ("mlflow", "numpy==2.3.5", "six"), ("pandas<4",))


def test_models_of_older_mlflow_say_it_in_conda_yaml(tmp_path: Path) -> None:
    """Without requirements.txt the pip section counts; without any file nothing is needed."""
    assert requirements.read(tmp_path) == Needs(tmp_path)
    (tmp_path / "conda.yaml").write_text(
        "dependencies:\n- python=3.8.10\n- pip<=21\n- pip:\n  - mlflow\n  - six==1.1\n"
    )
    assert requirements.read(tmp_path) == Needs(tmp_path, "3.8.10", ("mlflow", "six==1.1"))


def test_uv_is_told_what_pip_is_told(tmp_path: Path) -> None:
    """What pip's files and variables say reaches uv in its own words, variables win, and what uv itself was told stays."""
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://file/simple\nextra-index-url =\n  https://a/s\n  https://b/s\n")
    found = indexes.uv_variables({"PIP_FIND_LINKS": "/wheels /more", "PIP_CERT": "/ca.pem"}, [file])
    assert found == {
        "UV_DEFAULT_INDEX": "https://file/simple",
        "UV_INDEX": "https://a/s https://b/s",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/ca.pem",
    }
    host = {"PIP_INDEX_URL": "https://variable/simple", "UV_EXTRA_INDEX_URL": "https://uv/s"}
    assert indexes.uv_variables(host, [file]) == {"UV_DEFAULT_INDEX": "https://variable/simple"}
    assert file in indexes.pip_files({"PIP_CONFIG_FILE": str(file)})
    assert indexes.pip_files({"PIP_CONFIG_FILE": "/dev/null"}) == []
