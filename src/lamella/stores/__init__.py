"""Object storage: tensors that do not fit into a payload, weights, packages, and what front doors watch."""
