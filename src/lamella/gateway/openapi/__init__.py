"""The OpenAPI document of what a server answers."""
