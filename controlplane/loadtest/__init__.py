"""Load-testing an endpoint through its public port, and saying what that showed.

`driver`, `http` and `alarm` touch the network and the clock; everything else here is values in, values out. It measures the
requests it makes itself; what Envoys report of everybody's requests is `domain.load` and `measurements`.
"""
