"""How to call an endpoint, ready to copy."""

from __future__ import annotations

import json
from typing import Any

#: Where a model says nothing of its input.
_ANY = {"inputs": [[0.0]]}

_CURL = """curl {token}-H 'Content-Type: application/json' \\
  -d '{body}' \\
  {url}/serving-endpoints/{name}/invocations"""

_SDK = """import os
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import DataframeSplitInput

client = WorkspaceClient(host="{url}", token={token})
answer = client.serving_endpoints.query("{name}", {arguments})
print(answer.predictions)"""

_MLFLOW = """import os
from mlflow.deployments import get_deploy_client

os.environ["DATABRICKS_HOST"] = "{url}"
os.environ["DATABRICKS_TOKEN"] = {token}
client = get_deploy_client("databricks")
print(client.predict(endpoint="{name}", inputs={body}))"""


def snippets(url: str, name: str, example: Any, *, with_token: bool) -> tuple[tuple[str, str], ...]:
    """(title, text) of each way; `url` is the public one, `example` a whole body or None."""
    body = example if isinstance(example, dict) else _ANY
    token = 'os.environ["WYE_TOKEN"]' if with_token else '"none"'
    header = '-H "Authorization: Bearer $WYE_TOKEN" \\\n  ' if with_token else ""
    text = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    return (
        ("curl", _CURL.format(token=header, body=text, url=url, name=name)),
        ("Python SDK", _SDK.format(url=url, token=token, name=name, arguments=_arguments(body))),
        ("MLflow", _MLFLOW.format(url=url, token=token, name=name, body=repr(body))),
    )


def _arguments(body: dict[str, Any]) -> str:
    """The SDK's keyword arguments; it has a class of its own for dataframe_split."""
    return ", ".join(
        f"{key}=DataframeSplitInput.from_dict({value!r})" if key == "dataframe_split" else f"{key}={value!r}"
        for key, value in body.items()
    )
