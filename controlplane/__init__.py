"""Wye's control plane: endpoint configs in, Envoy configuration and running replicas out."""
