"""The service behind local deployments: a process of its own that hosts them, and the door to it."""
