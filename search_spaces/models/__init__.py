"""Models on disk and in memory, before anything is known of their structure."""
