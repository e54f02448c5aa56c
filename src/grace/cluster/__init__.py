"""Kubernetes: profiles, workloads, manifests, policies, capacity, and the Jobs executor."""
