"""The subcommands of `wye` that talk to a running Wye over its public URL, as any client would.

They know the REST API and nothing of how it is carried out: of the control plane only the clock and the list of settings
are imported here.
"""
