"""The `openai` package, unmodified: a chat model, an agent and an embedding model of MLflow's behind OpenAI's paths."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest
from databricks.sdk.service.serving import ChatMessage, ChatMessageRole
from openai import OpenAI

from tests.e2e.wye import Wye, config

QUESTION = [{"role": "user", "content": "hello big world"}]
MODELS = ("parrot", "agent", "lengths")


@pytest.fixture(scope="module", autouse=True)
def endpoints(wye: Wye) -> Iterator[None]:
    """An endpoint for each of the three models, with the model's name."""
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda name: wye.create(name, config({"m": 100}, m=f"{name}/1")), MODELS))
        assert [each["state"]["ready"] for each in made] == ["READY"] * 3, made
        yield
        list(pool.map(wye.remove, MODELS))


@pytest.fixture(scope="module")
def client(wye: Wye) -> Iterator[OpenAI]:
    """The client as its users make it: a base URL and a key."""
    with OpenAI(base_url=f"{wye.url}/serving-endpoints", api_key=wye.token, max_retries=0) as made:
        yield made


def test_chat(client: OpenAI) -> None:
    """A chat model answers, with the parameters that were sent; the header says which served model it was."""
    raw = client.chat.completions.with_raw_response.create(model="parrot", messages=QUESTION, temperature=0.25)
    assert raw.headers["served-model-name"] == "m"
    (choice,) = raw.parse().choices
    assert (choice.message.role, choice.message.content) == ("assistant", "hello big world at 0.25")


def test_chat_piece_by_piece(client: OpenAI) -> None:
    """With `stream=True` the model's pieces come one by one."""
    pieces = client.chat.completions.create(model="parrot", messages=QUESTION, stream=True)
    assert [piece.choices[0].delta.content for piece in pieces] == ["hello", "big", "world"]


def test_an_agent(client: OpenAI) -> None:
    """A ResponsesAgent answers on `/responses`, at once and as events; a text is a message of the user's."""
    for question in (QUESTION, "hello big world"):
        assert client.responses.create(model="agent", input=question).output_text == "you said hello big world"
        events = list(client.responses.create(model="agent", input=question, stream=True))
        words = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert (words, events[-1].type) == (["hello", "big", "world"], "response.output_item.done")


@pytest.mark.parametrize(("texts", "lengths"), [("abc", [3.0]), (["a", "bcd"], [1.0, 3.0])], ids=["one", "two"])
def test_embeddings(client: OpenAI, texts: str | list[str], lengths: list[float]) -> None:
    """One text or several."""
    assert [each.embedding[0] for each in client.embeddings.create(model="lengths", input=texts).data] == lengths


def test_the_sdk_makes_such_a_client(wye: Wye) -> None:
    """`get_open_ai_client` needs nothing but the workspace client."""
    workspace = WorkspaceClient(host=wye.url, token=wye.token)
    with pytest.warns(DeprecationWarning, match="databricks_openai"):
        made = workspace.serving_endpoints.get_open_ai_client()
    with made:
        answer = made.chat.completions.create(model="parrot", messages=QUESTION)
    assert answer.choices[0].message.content == "hello big world at 1.0"
    workspace.api_client._api_client._session.close()


def test_the_sdk_queries_such_models_by_name(wye: Wye) -> None:
    """`query` with messages, a prompt or an input, with its parameters, in the SDK's own types."""
    workspace = WorkspaceClient(host=wye.url, token=wye.token)
    query = workspace.serving_endpoints.query
    message = ChatMessage(role=ChatMessageRole.USER, content="hello")
    said = query("parrot", messages=[message], temperature=0.5, max_tokens=10)
    assert (said.choices[0].message.content, said.served_model_name) == ("hello at 0.5", "m")
    embedded = query("lengths", input=["ab"], usage_context={"team": "x"})
    assert [each.embedding for each in embedded.data] == [[2.0, 0.5]]
    with pytest.raises(BadRequest, match="KeyError"):
        query("lengths", prompt="hello")
    workspace.api_client._api_client._session.close()


def test_errors_are_the_clients_own(wye: Wye, client: OpenAI) -> None:
    """Each error class where it should be, with Wye's words in it."""
    with pytest.raises(openai.NotFoundError, match=r"gpt-4%2E1.*no such endpoint"):
        client.chat.completions.create(model="gpt-4.1", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="'model' is the name of a serving endpoint"):
        client.chat.completions.create(model=None, messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="`content` is required"):
        client.chat.completions.create(model="parrot", messages=[{"role": "user"}])
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").chat.completions.create(model="parrot", messages=QUESTION)
    token = wye.client.post("/api/2.0/token/create", json={"user_name": "zoe", "groups": []}).json()["token_value"]
    with pytest.raises(openai.PermissionDeniedError, match="zoe may not query"):
        client.with_options(api_key=token).chat.completions.create(model="parrot", messages=QUESTION)
