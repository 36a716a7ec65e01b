"""Measurements of a whole cluster on one machine; see docs/performance.md."""
