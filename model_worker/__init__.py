"""The worker side of Wye: a host that forks replicas, and the replica that serves one MLflow model over HTTP."""
