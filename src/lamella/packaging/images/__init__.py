"""Images of packages, in the form that registries and Lambda take, without Docker."""
