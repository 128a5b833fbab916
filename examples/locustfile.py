"""Loads a Wye endpoint with Locust; each served model is a line of its own in Locust's statistics.

    WYE_TOKEN=… WYE_ENDPOINT=multi-model locust -f locustfile.py --host http://localhost:8080

WYE_ENDPOINT is multi-model when it is not set; WYE_MODEL asks one served model, whatever the split; WYE_BODY names a file with
the request body, else the model's input example is sent; WYE_PAUSE is how many seconds a user thinks between two requests (0).
"""

import json
import os
from pathlib import Path

from locust import HttpUser, constant, events, task

ENDPOINT = os.environ.get("WYE_ENDPOINT", "multi-model")
MODEL = os.environ.get("WYE_MODEL", "")
HEADERS = {"authorization": f"Bearer {os.environ['WYE_TOKEN']}"} if os.environ.get("WYE_TOKEN") else {}
SERVED = f"/served-models/{MODEL}" if MODEL else ""


class Caller(HttpUser):
    """Asks, waits for the answer, and asks again."""

    wait_time = constant(float(os.environ.get("WYE_PAUSE", "0")))

    def on_start(self) -> None:
        """Take the body from the file, or from the endpoint's description."""
        self.client.headers.update(HEADERS)
        if os.environ.get("WYE_BODY"):
            self.body = Path(os.environ["WYE_BODY"]).read_bytes()
            return
        answer = self.client.get(f"/api/2.0/serving-endpoints/{ENDPOINT}/openapi", name="the input example")
        answer.raise_for_status()
        paths = answer.json()["paths"]
        described = paths[f"{SERVED}/invocations"] if MODEL else next(iter(paths.values()))
        content = described["post"]["requestBody"]["content"]["application/json"]
        if "example" not in content:
            raise SystemExit(f"{MODEL or ENDPOINT} has no input example to ask with; name a file in WYE_BODY")
        self.body = json.dumps(content["example"]).encode()

    @task
    def predict(self) -> None:
        """One prediction."""
        path = f"/serving-endpoints/{ENDPOINT}{SERVED}/invocations"
        kind = {"content-type": "application/json"}
        with self.client.post(path, data=self.body, headers=kind, name=path, catch_response=True) as answer:
            served = answer.headers.get("served-model-name")
            if served:
                answer.request_meta["name"] = f"{ENDPOINT}: {served}"
            if answer.status_code >= 400:
                answer.failure(answer.text[:200])


@events.test_start.add_listener
def say(environment, **_: object) -> None:
    """Tell what is loaded."""
    print(f"Loading {ENDPOINT}{f' ({MODEL})' if MODEL else ''} at {environment.host}")
