"""What executes a model: one member a file, all behind the `Protocol` in `base`."""
