"""Triton's own client, unmodified, at Wye's public port."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.e2e.wye import Wye, config

NAME = "tritons"


@pytest.fixture(scope="module")
def client(wye: Wye) -> Iterator[InferenceServerClient]:
    """A client, and an endpoint that answers 21 nine times of ten, else 42."""
    wye.create(NAME, config({"a": 90, "b": 10}, a="linear/1", b="linear/2"))
    client = InferenceServerClient(wye.url.removeprefix("http://"))
    yield client
    client.close()
    wye.remove(NAME)


@pytest.fixture
def headers(wye: Wye) -> dict[str, str]:
    """The token, as this client wants it with each call."""
    return {"authorization": f"Bearer {wye.token}"}


def columns(*, binary: bool = True) -> list[InferInput]:
    """Two rows, a tensor for each column."""
    tensors = []
    for name, values in (("x", [1.0, 0.0]), ("y", [2.0, 0.0])):
        tensor = InferInput(name, [2], "FP64")
        tensor.set_data_from_numpy(np.array(values), binary_data=binary)
        tensors.append(tensor)
    return tensors


@pytest.mark.parametrize("binary", [True, False])
def test_predictions(wye: Wye, client: InferenceServerClient, headers: dict[str, str], binary: bool) -> None:
    """As its user sends them, in binary and as JSON; a version is a served model, whose answers are equal to its other ones."""
    for served, first in (("a", 21), ("b", 42)):
        answer = client.infer(NAME, columns(binary=binary), served, request_id="7", headers=headers)
        assert answer.as_numpy("output-1")[0] == pytest.approx(first)
        assert (answer.get_response()["model_name"], answer.get_response()["id"]) == (NAME, "7")
        rows = {"dataframe_split": {"columns": ["x", "y"], "data": [[1.0, 2.0], [0.0, 0.0]]}}
        assert answer.as_numpy("output-1").tolist() == wye.predict(NAME, served, rows).json()["predictions"]


def test_the_split_decides(client: InferenceServerClient, headers: dict[str, str]) -> None:
    """Without a version; all columns may come as one tensor, an output may be asked for by name."""
    tensor = InferInput("all", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 2]], dtype=np.float32))
    wanted = [InferRequestedOutput("output-1")]
    seen = {
        round(client.infer(NAME, [tensor], outputs=wanted, headers=headers).as_numpy("output-1")[0]) for _ in range(100)
    }
    assert seen == {21, 42}


def test_health(client: InferenceServerClient, headers: dict[str, str]) -> None:
    """The server's, and an endpoint's."""
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.is_model_ready(NAME, headers=headers)
    assert not client.is_model_ready("nobody", headers=headers)


def test_errors(client: InferenceServerClient, headers: dict[str, str]) -> None:
    """A replica's words where the client looks for them; Envoy's in the body that it shows."""
    with pytest.raises(InferenceServerException, match=r"^\[400\] the input does not fit .* missing inputs \['y'\]"):
        client.infer(NAME, columns()[:1], headers=headers)
    with pytest.raises(InferenceServerException, match=r"(?s)^\[404\].*RESOURCE_DOES_NOT_EXIST.*/nobody/"):
        client.infer("nobody", columns(), headers=headers)
    with pytest.raises(InferenceServerException, match=r"(?s)^\[401\].*UNAUTHENTICATED"):
        client.infer(NAME, columns())
