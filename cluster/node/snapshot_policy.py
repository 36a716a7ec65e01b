"""When the state is to be written out: by the journal's growth, or by age where anything changed."""

from __future__ import annotations

from cluster.node.configuration import SnapshotOptions
from datastore.journal import Journal


class SnapshotPolicy:
    """Counts the journal's bytes after the current data file."""

    def __init__(self, journal: Journal, options: SnapshotOptions, data_file_index: int) -> None:
        self._journal = journal
        self._options = options
        self._from = self._to = data_file_index  # what is counted: entries after `_from` up to `_to`
        self._bytes = 0

    def count(self, data_file_index: int) -> None:
        """Take in what was added since the last call, and that the data file stands at that index now."""
        if data_file_index > self._from:
            self._from = self._to = data_file_index
            self._bytes = 0
        for index in range(max(self._to, self._journal.base_index) + 1, self._journal.synced_index + 1):
            entry = self._journal.entry(index)
            assert entry is not None, "entries above the base are held"
            self._bytes += len(entry.data)
            self._to = index

    def is_due(self, age_ms: int) -> bool:
        if self._to == self._from:
            return False
        return self._bytes >= self._options.journal_bytes or age_ms >= self._options.age_s * 1000
