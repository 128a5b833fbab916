"""URIs: what may be shown, and what a worker can load."""

from __future__ import annotations

import pytest

from controlplane.registry.location import hide_credentials, loadable, without_credentials


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////var/lib/mlflow.db", "sqlite:////var/lib/mlflow.db"),
        ("./mlruns", "./mlruns"),
        ("http://mlflow.example:5000", "http://mlflow.example:5000"),
        ("https://me:s3cret@mlflow.example/base?token=s3cret", "https://mlflow.example/base"),
        ("postgresql://me:s3cret@db/mlflow", "postgresql://db/mlflow"),
        ("http://[broken", "(an address that is not a URI)"),
    ],
)
def test_a_uri_is_shown_without_what_may_be_secret(uri: str, shown: str) -> None:
    """User, password and query are left out."""
    assert without_credentials(uri) == shown


@pytest.mark.parametrize(
    ("text", "uri", "hidden"),
    [
        ("no route to http://me:s3cret@h/x", "http://me:s3cret@h", "no route to http://h/x"),
        ("password s%40cret or s@cret is wrong", "http://me:s%40cret@h", "password *** or *** is wrong"),
        ("GET http://h?token=abc failed: token=abc", "http://h?token=abc", "GET http://h failed: ***"),
        ("cannot parse http://[me:s3cret@", "http://[me:s3cret@", "cannot parse ***"),
        ("nothing to hide", "sqlite:///x.db", "nothing to hide"),
    ],
)
def test_words_of_others_lose_the_credentials_of_the_uri(text: str, uri: str, hidden: str) -> None:
    """Whatever a driver quotes of its address, the secrets in it are gone."""
    assert hide_credentials(text, uri) == hidden


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///srv/my%20model", "/srv/my model"),
        ("file:/srv/m", "/srv/m"),
        ("file://localhost/srv/m", "/srv/m"),
        ("/srv/m", "/srv/m"),
        ("s3://bucket/m", "s3://bucket/m"),
        ("mlflow-artifacts:/0/models/m-1/artifacts", "mlflow-artifacts:/0/models/m-1/artifacts"),
        ("file://elsewhere/m", "file://elsewhere/m"),
    ],
)
def test_files_of_this_machine_become_paths(uri: str, path: str) -> None:
    """What lies here is loaded by its path; everything else keeps its URI."""
    assert loadable(uri) == path
