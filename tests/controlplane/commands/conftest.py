"""A small real HTTP server that keeps the API's contract, and the command line pointed at it."""

from __future__ import annotations

import copy
import json
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from controlplane.cli import cli

API = "/api/2.0/serving-endpoints"
TOKEN = "secret-token"


@dataclass
class Request:
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Answer:
    """A scripted answer; `hang_up` closes the connection without one."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: dict = field(default_factory=dict)
    hang_up: bool = False


def error(status, code, message):
    """The API's answer to what it refuses."""
    return Answer(status, json.dumps({"error_code": code, "message": message}).encode())


def entity_out(entity, state, message=""):
    """A served entity as the API answers it."""
    state = {"deployment": f"DEPLOYMENT_{state}", "deployment_state_message": message}
    return {"workload_size": "Small", "creator": "me", "creation_timestamp": 1, **entity, "state": state}


def config_out(config, version, state="READY", message=""):
    """A config as the API answers it: both spellings, both names of a route."""
    entities = [
        {**entity, "name": entity.get("name") or f"{entity['entity_name']}-{entity['entity_version']}"}
        for entity in config["served_entities"]
    ]
    routes = (config.get("traffic_config") or {}).get("routes")
    if routes is None:
        routes = [{"served_model_name": entities[0]["name"], "traffic_percentage": 100}]
    routes = [{**route, "served_entity_name": route["served_model_name"]} for route in routes]
    out = [entity_out(entity, state, message) for entity in entities]
    return {
        "config_version": version,
        "served_entities": out,
        "served_models": [{"name": entity["name"], "model_name": entity["entity_name"]} for entity in entities],
        "traffic_config": {"routes": routes},
    }


class StubWye:
    """The server's memory: endpoints, what was asked, what to answer out of turn, and how updates go."""

    def __init__(self):
        self.endpoints = {}
        self.requests = []
        self.scripted = defaultdict(deque)
        self._lock = threading.RLock()
        #: How many GETs still see the next update IN_PROGRESS; None: all of them.
        self.polls = 1
        #: Why the next update fails; None: it does not.
        self.failure = None
        #: Leave out of the list what Databricks' own list leaves out.
        self.summarise = False
        self.server = None
        self.port = 0

    # ---- the server ----

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {key.lower(): value for key, value in self.headers.items()}
                answer = stub.answer(Request(self.command, self.path, headers, body))
                if answer.hang_up:
                    return
                self.send_response(answer.status)
                self.send_header("content-type", answer.content_type)
                self.send_header("content-length", str(len(answer.body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815  # the base class looks for these

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = False
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.server = server, thread
        return self

    def stop(self):
        if self.server is not None:
            server, thread = self.server
            server.shutdown()
            server.server_close()
            thread.join()
            self.server = None

    # ---- the contract ----

    def script(self, method, path, *answers):
        self.scripted[method, path].extend(answers)

    def add(self, name, entities, traffic=None, **fields):
        config = {"served_entities": entities}
        if traffic:
            config["traffic_config"] = {
                "routes": [{"served_model_name": name, "traffic_percentage": p} for name, p in traffic.items()]
            }
        self.endpoints[name] = {
            "name": name,
            "id": "0" * 32,
            "creator": "me@corp.example",
            "creation_timestamp": 1739900000000,
            "state": {"ready": "READY", "config_update": "NOT_UPDATING"},
            "config": config_out(config, 1),
            "permission_level": "CAN_MANAGE",
            "tags": [],
            **fields,
        }

    def answer(self, request):
        with self._lock:  # nobody sees what another call has half done
            return self.answer_alone(request)

    def answer_alone(self, request):
        self.requests.append(request)
        queue = self.scripted[request.method, request.path]
        if queue:
            return queue.popleft()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return error(401, "UNAUTHENTICATED", "Send a token.")
        parts = [unquote(part) for part in request.path.removeprefix("/api/2.0").split("/")[2:]]
        if request.path.startswith("/serving-endpoints"):
            return self.predict(parts)
        return self.manage(request, parts)

    def answer_now(self, method, path, body):
        """What the server answers somebody else, who asks with the right token."""
        return self.answer(Request(method, path, {"authorization": f"Bearer {TOKEN}"}, json.dumps(body).encode()))

    def predict(self, parts):
        name, *rest = parts
        if name not in self.endpoints:
            return missing(name)
        served = [entity["name"] for entity in self.endpoints[name]["config"]["served_entities"]]
        if rest[0] == "served-models" and rest[1] not in served:
            return error(404, "RESOURCE_DOES_NOT_EXIST", f"Served model {rest[1]} not found")
        model = rest[1] if rest[0] == "served-models" else served[0]
        return Answer(body=b'{"predictions": [1.5, {"label": "\xc3\xbc"}]}', headers={"served-model-name": model})

    def manage(self, request, parts):
        if not parts:
            if request.method == "POST":
                return self.create(request.json)
            listed = [self.summary(each) if self.summarise else each for each in self.endpoints.values()]
            return as_json({"endpoints": listed})
        name = parts[0]
        if name not in self.endpoints:
            return missing(name)
        if request.method == "DELETE":
            del self.endpoints[name]
            return as_json({})
        if request.method == "PUT":
            return self.begin(self.endpoints[name], request.json)
        self.advance(self.endpoints[name])
        return as_json(self.endpoints[name])

    def create(self, body):
        if body["name"] in self.endpoints:
            return error(409, "RESOURCE_ALREADY_EXISTS", f"Endpoint {body['name']} exists")
        state = {"ready": "NOT_READY", "config_update": "NOT_UPDATING"}
        endpoint = {"name": body["name"], "id": "1" * 32, "state": state}
        if "config" not in body:
            self.endpoints[body["name"]] = endpoint
            return as_json(endpoint)
        answer = self.begin(endpoint, body["config"])
        if answer.status == 200:
            self.endpoints[body["name"]] = endpoint
        return answer

    def begin(self, endpoint, config):
        routes = (config.get("traffic_config") or {}).get("routes", [])
        total = sum(route["traffic_percentage"] for route in routes)
        if routes and total != 100:
            return error(400, "INVALID_PARAMETER_VALUE", f"Traffic percentages must add up to 100, not {total}")
        if endpoint["state"]["config_update"] == "IN_PROGRESS":
            return error(409, "RESOURCE_CONFLICT", f"Endpoint {endpoint['name']} is being updated")
        version = endpoint.get("config", {}).get("config_version", 0) + 1
        endpoint["pending_config"] = config_out(config, version, "CREATING", "Loading the model")
        endpoint["state"]["config_update"] = "IN_PROGRESS"
        return as_json(endpoint)

    def advance(self, endpoint):
        if endpoint["state"]["config_update"] != "IN_PROGRESS" or self.polls is None:
            return
        if self.polls > 1:
            self.polls -= 1
            return
        pending = endpoint["pending_config"]
        if self.failure is not None:
            endpoint["state"]["config_update"] = "UPDATE_FAILED"
            *others, failed = pending["served_entities"]
            failed["state"] = entity_out({}, "FAILED", self.failure)["state"]
            for other in others:
                other["state"] = entity_out({}, "ABORTED", "Given up because of another.")["state"]
            return
        for entity in pending["served_entities"]:
            entity["state"] = entity_out({}, "READY")["state"]
        endpoint["config"] = endpoint.pop("pending_config")
        endpoint["state"] = {"ready": "READY", "config_update": "NOT_UPDATING"}

    @staticmethod
    def summary(endpoint):
        short = {key: endpoint[key] for key in ("name", "id", "creator", "state") if key in endpoint}
        if "config" in endpoint:
            keys = ("name", "entity_name", "entity_version")
            entities = [{key: each[key] for key in keys} for each in endpoint["config"]["served_entities"]]
            short["config"] = {"served_entities": entities}
        return copy.deepcopy(short)


def as_json(body):
    """A good answer."""
    return Answer(body=json.dumps(body).encode())


def missing(name):
    """The answer for an endpoint that does not exist."""
    return error(404, "RESOURCE_DOES_NOT_EXIST", f"Serving endpoint with name {name} not found")


@pytest.fixture
def server():
    """A running stub with the demo endpoint."""
    stub = StubWye().start()
    stub.add(
        "multi-model",
        [
            {"name": "current", "entity_name": "model-A", "entity_version": "1"},
            {"name": "challenger", "entity_name": "model-B", "entity_version": "1"},
        ],
        {"current": 90, "challenger": 10},
    )
    yield stub
    stub.stop()


@pytest.fixture
def answers():
    """What scripts are written with: `Answer` and `error(status, code, message)`."""

    class Answers:
        Answer = Answer
        error = staticmethod(error)

    return Answers


@pytest.fixture
def run_bare(tmp_path, monkeypatch):
    """`wye …` in an empty directory, told nothing of where Wye is."""
    monkeypatch.chdir(tmp_path)
    for name in ("WYE_URL", "WYE_TOKEN", "WYE_STATE_DIR", "FORCE_COLOR", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def run(*args, input=None, env=None):  # noqa: A002
        return CliRunner().invoke(cli, [str(arg) for arg in args], input=input, env=env, prog_name="wye")

    return run


@pytest.fixture
def run(run_bare, server):
    """`wye …` with the environment that leads to the stub."""

    def run_there(*args, input=None, env=None):  # noqa: A002
        return run_bare(*args, input=input, env={"WYE_URL": server.url, "WYE_TOKEN": TOKEN, **(env or {})})

    return run_there
