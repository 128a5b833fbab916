"""Carrying configs out: pure decisions (lifecycle, routing, plan, restart) and the supervisor that does what they say."""
