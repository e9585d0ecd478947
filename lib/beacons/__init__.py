"""Beacons: what fine-tuning does to facts, seen by semantic distance (Findings of ACL 2024, 2405.18292)."""
