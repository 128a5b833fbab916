"""What is packaged under which name, and which requirements can be met together."""

from __future__ import annotations

import pytest

from controlplane.bundle.members import BundleError, Member, common_python, members, merged


def test_members_are_called_as_they_are_registered_unless_told() -> None:
    """The name before the version or the alias; `name=` wins; a mapping says both."""
    given = ["models:/a/1", "best=models:/b@champion", "models:/c@x"]
    assert members(given) == (
        Member("a", "models:/a/1"),
        Member("best", "models:/b@champion"),
        Member("c", "models:/c@x"),
    )
    assert members({"x": "runs:/1/model"}) == (Member("x", "runs:/1/model"),)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "name the models"),
        (["models:/a/1", "models:/a/2"], "two models would be called 'a'"),
        (["models:/my model/1"], "say another one, such as first=models:/my model/1"),
        (["runs:/1/model"], "has no name"),
    ],
)
def test_names_that_are_missing_or_taken_are_told(given: list[str], words: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(BundleError) as refused:
        members(given)
    assert words in str(refused.value)


def test_requirements_are_merged() -> None:
    """The same once, ranges and extras together, the latest of MLflow's own pins, files and URLs as they are."""
    assert merged(
        {
            "a": ["mlflow==3.1.0", "scikit-learn==1.7.2", "numpy<3", "httpx[http2]", "wheels/own.whl"],
            "b": ["mlflow==3.4.0", "scikit_learn==1.7.2", "numpy>=2", "httpx[socks]>=0.2"],
        }
    ) == ("httpx[http2,socks]>=0.2", "mlflow==3.4.0", "numpy<3,>=2", "scikit-learn==1.7.2", "wheels/own.whl")


def test_conflicts_are_named() -> None:
    """Every package about which members disagree, with who needs what; a decision settles it."""
    needs = {"a": ["x==1", "y==1", "mlflow==2.1"], "b": ["X==2", "y>=2", "mlflow==3.1"], "c": ["z==1"]}
    with pytest.raises(BundleError) as refused:
        merged(needs)
    assert "x: a needs ==1, b needs ==2" in str(refused.value)
    assert "y: a needs ==1, b needs >=2" in str(refused.value)
    assert "mlflow: a needs ==2.1, b needs ==3.1" in str(refused.value)
    assert merged(needs, ["x==2", "y==2", "mlflow==3.1"]) == ("mlflow==3.1", "x==2", "y==2", "z==1")
    with pytest.raises(BundleError, match="is not a requirement"):
        merged(needs, ["x=2"])


def test_members_agree_on_python() -> None:
    """Patch levels may differ and the latest is taken; other numbers are a conflict."""
    assert common_python({"a": "3.11.2", "b": "3.11.10", "c": ""}) == "3.11.10"
    assert common_python({"a": ""}) == ""
    with pytest.raises(BundleError, match=r"a has 3\.11\.2, b has 3\.12\.1"):
        common_python({"a": "3.11.2", "b": "3.12.1"})
