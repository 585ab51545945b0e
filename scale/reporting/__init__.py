"""Pages and tables for readers, from saved predictions."""
