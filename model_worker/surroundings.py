"""What all replicas of a host share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model_worker.allowance import SIZES, Allowance, Processors
from model_worker.artifacts import Artifacts
from model_worker.environments import Environments
from model_worker.fork_servers import ForkServers
from model_worker.keeping import Keeping
from model_worker.listeners import Listeners
from model_worker.logs import Logs
from model_worker.pulse import Patience
from model_worker.task import Limits
from model_worker.templates import Templates


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What replicas need of their host, and of each other."""

    artifacts: Artifacts
    environments: Environments
    forks: ForkServers
    templates: Templates
    listeners: Listeners
    keeping: Keeping
    logs: Logs
    #: How each replica's environment was chosen and built.
    build_logs: Logs
    #: Each replica gets a directory in this one.
    directory: Path
    #: The variables that every model sees.
    variables: Mapping[str, str]
    limits: Limits
    #: By size of workload.
    allowances: Mapping[str, Allowance]
    processors: Processors
    #: Added to every replica's niceness.
    nice: int = 0
    #: Where replicas send their spans; "": nowhere.
    collector: str = ""
    patience: Patience = field(default_factory=Patience)
    #: Where replicas look for a new host when this one has died.
    orphanage: str = ""

    def allowance(self, workload_size: str) -> Allowance:
        """What a replica of this size may take; as the smallest if there is no such size."""
        return self.allowances.get(workload_size) or self.allowances[SIZES[0]]
