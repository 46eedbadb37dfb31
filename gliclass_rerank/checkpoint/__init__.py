"""From a name to a loaded checkpoint, and back to a folder."""
