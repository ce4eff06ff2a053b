"""Where results go: a family of sinks."""
