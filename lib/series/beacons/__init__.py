"""The experiments of Semantic are Beacons (Findings of ACL 2024)."""
