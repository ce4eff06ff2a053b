"""The event-driven front door, and the schedule: new objects become requests, and pings keep functions warm."""

from lamella.gateway.events.deployed import Deployed, on_endpoint, on_target
from lamella.gateway.events.keep_warm import KeepWarm, keep_warm
from lamella.gateway.events.trigger import Trigger, Warming
from lamella.gateway.events.watcher import Watched, Watcher

__all__ = [
    "Deployed",
    "KeepWarm",
    "Trigger",
    "Warming",
    "Watched",
    "Watcher",
    "keep_warm",
    "on_endpoint",
    "on_target",
]
