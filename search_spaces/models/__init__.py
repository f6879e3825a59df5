"""Models on disk and in memory, before their structure is read."""
