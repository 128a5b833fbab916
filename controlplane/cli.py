"""The `wye` command: which subcommands there are and what the exit codes mean.

Subcommands are imported only when they run, so that `wye --help` and shell completion answer at once however much a
command needs. Nothing here may import one of them.
"""

from __future__ import annotations

import click

from controlplane.commands.lazy import LazyGroup

HELP = """Serve MLflow models behind Envoy, with the REST API of Databricks Model Serving.

\b
Every command but `up`, `worker-host` and `settings` talks to a running Wye, found by the first of:
  --url and --token          WYE_URL and WYE_TOKEN
  <state-dir>/wye.json       written by `wye up`; --state-dir or WYE_STATE_DIR, .wye by default

Tables are for people and may change; with `-o json` a command prints the API's JSON on standard output and nothing
else. Errors go to standard error.

\b
Exit codes:
  0    done
  1    Wye refused the request, or failed to carry it out
  2    the command line or a file named in it is wrong; nothing was sent
  3    no such endpoint, served model or model version
  4    Wye cannot be reached, or what answered is not Wye
  5    the update failed; what served before still serves
  6    the update was still in progress when --timeout ran out; it goes on
  130  interrupted while waiting for an update, which goes on, or during a load test, which is reported
"""


@click.group(cls=LazyGroup, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wye")
def cli() -> None:
    """Only holds the subcommands."""


cli.register(
    "up",
    "controlplane.up:up",
    "Start Envoy, the control plane and the worker host in the foreground; Ctrl-C stops them.",
)
cli.register("status", "controlplane.commands.status:status", "Show what every endpoint serves, and how it is doing.")
cli.register(
    "endpoints", "controlplane.commands.endpoints:endpoints", "List, show, create, update and delete endpoints."
)
cli.register("split", "controlplane.commands.split:split", "Change an endpoint's traffic percentages and nothing else.")
cli.register("query", "controlplane.commands.query:query", "Send a request to an endpoint and print its predictions.")
cli.register("settings", "controlplane.commands.settings:settings", "List every setting of `wye up`.")
cli.register(
    "apply", "controlplane.commands.apply:apply", "Create or update endpoints, so that they are what a file says."
)
cli.register(
    "logs",
    "controlplane.commands.logs:logs",
    "Print the last lines of a served model's replicas, each after the replica's id.",
)
cli.register("package", "controlplane.commands.package:package", "Make one registered model of several.")
cli.register("tokens", "controlplane.commands.tokens:tokens", "Make, list and revoke tokens.")
cli.register(
    "load",
    "controlplane.commands.load:load",
    "Load an endpoint through the public port, and report throughput, latencies, failures and the observed split.",
)
cli.register("demo", "controlplane.commands.demo:demo", "Register two small models and serve them at multi-model.")
cli.register(
    "worker-host", "controlplane.up.worker_host:worker_host", "Run the worker host alone, as a container does."
)


def main() -> None:
    """Run the command line of this process and exit with its code."""
    cli(prog_name="wye")


if __name__ == "__main__":
    main()
