"""Beacons: what fine-tuning does to knowledge, seen by semantic distance (Findings of ACL 2024)."""
