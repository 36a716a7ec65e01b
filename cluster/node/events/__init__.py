"""The audit trail: what every node writes of every event from its own apply, how it is read, and how it is verified."""
