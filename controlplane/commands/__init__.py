"""The subcommands of `wye` that talk to a running Wye over its public URL, as any client would.

They know the REST API and nothing of how it is carried out: no part of the control plane but its clock is imported here.
"""
