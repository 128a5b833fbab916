"""Settings: where each comes from, and what is said of one that cannot be read."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from controlplane.settings import Settings, described


def test_what_is_given_wins_over_the_environment_and_that_over_the_default() -> None:
    """A flag beats a variable, a variable beats the default, an empty variable counts as not set."""
    environment = {"WYE_PORT": "9000", "WYE_HOST": "127.0.0.2", "WYE_GRACE": ""}
    settings = Settings.read(environment, port=9001, host=None)
    assert (settings.port, settings.host, settings.grace) == (9001, "127.0.0.2", Settings.grace)


def test_the_registry_is_the_one_mlflow_would_use() -> None:
    """--mlflow-uri wins, then WYE_MLFLOW_URI, then MLFLOW_TRACKING_URI, then the state directory's own."""
    both = {"WYE_MLFLOW_URI": "http://wye", "MLFLOW_TRACKING_URI": "http://mlflow"}
    assert Settings.read(both, mlflow_uri="http://flag").mlflow_uri == "http://flag"
    assert Settings.read(both).mlflow_uri == "http://wye"
    assert Settings.read({"MLFLOW_TRACKING_URI": "http://mlflow"}).mlflow_uri == "http://mlflow"
    assert Settings.read({}, state_dir=Path("/s")).mlflow_uri == "sqlite:////s/mlflow.db"


def test_another_process_reads_the_same_settings() -> None:
    """What `environment` gives makes an equal value, defaults that depend on others included."""
    settings = Settings.read({}, port=0, state_dir=Path("relative"), no_auth=True, drain=0.25)
    assert Settings.read(settings.environment()) == settings
    assert settings.state_dir.is_absolute()


@pytest.mark.parametrize(
    ("variable", "text"),
    [("WYE_PORT", "http"), ("WYE_DRAIN", "soon"), ("WYE_NO_AUTH", "perhaps"), ("WYE_ENVIRONMENTS", "conda")],
)
def test_a_value_that_cannot_be_read_is_named(variable: str, text: str) -> None:
    """The error names the variable and what it holds."""
    with pytest.raises(ValueError, match=f"{variable}.*{text}"):
        Settings.read({variable: text})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_without_tokens_only_this_machine_is_served(host: str) -> None:
    """Where others can connect they are needed; the message says what to change."""
    with pytest.raises(ValueError, match=rf"WYE_NO_AUTH\) is refused on {host}.*WYE_HOST"):
        Settings.read({"WYE_NO_AUTH": "1", "WYE_HOST": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_is_served_without_tokens_when_asked_for(host: str) -> None:
    """Whatever name it goes by."""
    assert Settings.read({"WYE_NO_AUTH": "1"}, host=host).no_auth


def test_sockets_have_room_however_long_the_state_directory_is() -> None:
    """A path that leaves no room for a socket's name gets its run directory elsewhere, always the same."""
    short, long = Settings.read({}, state_dir=Path("/s")), Settings.read({}, state_dir=Path("/" + "x" * 200))
    assert short.run_dir == Path("/s/run")
    assert len(str(long.run_dir)) < 67
    assert long.run_dir == Settings.read({}, state_dir=long.state_dir).run_dir


def test_every_setting_is_described() -> None:
    """`wye settings` has a line with a meaning for each, and no two share a variable."""
    lines = described()
    assert len(lines) == len(fields(Settings)) == len({line["variable"] for line in lines})
    assert all(line["meaning"] for line in lines)
