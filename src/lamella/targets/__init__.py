"""Where deployments go: a family of targets, and what is deployed on each."""

from lamella.targets.deploying import Endpoint, deploy

__all__ = ["Endpoint", "deploy"]
