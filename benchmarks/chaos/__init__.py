"""Does anything that dies, moves or changes lose a request? Three endpoints under steady load, and a seeded schedule.

Every second or two something happens: a replica, the control plane, the worker host or Envoy's connection to the control
plane is killed, the control plane is told to restart, a version is swapped, weights or the number of replicas change. The
client never retries. A request fails with cause when it was in the process of a replica that was killed; nothing else is
an excuse.

`python -m benchmarks.chaos [--seed 1] [--minutes 5]`, or `make chaos`.
"""
