"""The triggers of every deployment: kept in files beside it, and active as long as this process hosts them."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from threading import RLock
from typing import Any

from lamella.errors import LamellaError, UsageError
from lamella.gateway.events.deployed import Deployed, Target, full_key, on_target
from lamella.gateway.events.keep_warm import KeepWarm, keep_warm
from lamella.gateway.events.loops import deployments_of
from lamella.gateway.events.shown import shown
from lamella.gateway.events.trigger import Trigger, Warming, from_json, to_json
from lamella.gateway.events.watcher import Watcher
from lamella.stores.directory import path_of
from lamella.targets.addresses import read_address
from lamella.targets.state import remove_tree

_FOLDER = "triggers"


class Triggers:
    """Adds, lists and removes triggers, and keeps them going. Thread-safe.

    A trigger is a file in its deployment's folder, and goes with it; its record and its dead letters lie beside the
    file, in a folder of its own.

    Args:
        folder: Where each deployment has its folder, named `NAME@STAGE`.
        target: What they are deployed on.
    """

    def __init__(self, folder: Path, target: Target) -> None:
        self._folder, self._target = folder, target
        self._watchers: dict[tuple[str, str], Watcher] = {}
        self._warming: dict[tuple[str, str], KeepWarm] = {}
        self._failures: dict[tuple[str, str], LamellaError] = {}
        self._lock = RLock()

    def start(self) -> dict[str, LamellaError]:
        """Let every trigger that is kept become active; returns what cannot, by deployment and id."""
        with self._lock:
            for path in sorted(self._folder.glob(f"*@*/{_FOLDER}/*.json")):
                key = path.parents[1].name
                try:
                    self._activate(_read(path, key))
                except (LamellaError, OSError) as error:
                    found = error if isinstance(error, LamellaError) else UsageError(f"`{path}`: {error}")
                    self._failures[key, path.stem] = found
            return {f"{key}/{name}": error for (key, name), error in self._failures.items()}

    def add(self, trigger: Trigger | Warming) -> dict[str, Any]:
        """Keep a trigger, and let it become active; returns it as `of` does.

        Raises:
            NotDeployedError: One of its deployments is not there.
            UsageError: It makes no sense, or results could start it again.
            MissingDependencyError: A place needs a library that is not installed.
        """
        trigger = replace(trigger, deployment=full_key(trigger.deployment))
        path = self._path(trigger.deployment, trigger.id)
        with self._lock:
            self._check(trigger)
            if path.exists():
                raise UsageError(f"there is a trigger `{trigger.id}` already", hint="remove it, or choose another id")
            active = self._made(trigger)
            try:
                _write(path, trigger)
            except BaseException:
                active.stop()
                self._remove(trigger.deployment, trigger.id)
                raise
            self._begin(trigger, active)
            return self._view(trigger)

    def _check(self, trigger: Trigger | Warming) -> None:
        """What can only be wrong with a new one; later, what is missing may come back."""
        if isinstance(trigger, Warming):
            self._find(trigger.deployment).inputs()
            if any(self._warming_of(trigger.deployment)):
                raise UsageError(
                    f"`{trigger.deployment}` is kept warm already", hint="remove that trigger first, to change it"
                )
            return
        for key in deployments_of(trigger):
            self._find(key).inputs()
        if trigger.input.startswith("file:") and not path_of(trigger.input).is_dir():
            raise UsageError(f"there is no folder `{path_of(trigger.input)}` to watch", hint="make it first")

    def of(self, key: str) -> list[dict[str, Any]]:
        """The triggers of a deployment, or of one of its models, and how each goes.

        Raises:
            NotDeployedError: It is not there.
        """
        address = read_address(key)
        found = self._target.find(address.name, stage=address.stage)
        if address.model is not None:
            found.model(address.model)
        with self._lock:
            failures = [
                {"id": name, "deployment": address.key, "kind": "unknown", "active": False, "last_error": error.message}
                for (owner, name), error in self._failures.items()
                if owner == address.key
            ]
            return [*(self._view(trigger) for trigger in self._all() if _concerns(trigger, key)), *failures]

    def doors(self, key: str) -> list[dict[str, object]]:
        """What makes requests for a deployment, as its front doors are shown."""
        with self._lock:
            return [
                {"kind": "objects", "id": found.id, "input": found.input, "output": shown(found.output)}
                if isinstance(found, Trigger)
                else {"kind": "keep_warm", "id": found.id, "interval_s": found.interval_s}
                for found in self._all()
                if _concerns(found, key)
            ]

    def remove(self, key: str, name: str) -> None:
        """End a trigger, and forget what it has done. Objects and results stay; its own dead letters go.

        Raises:
            UsageError: There is none of this id.
        """
        with self._lock:
            if not any(entry["id"] == name for entry in self.of(key)):
                raise UsageError(
                    f"`{full_key(key)}` has no trigger `{name}`", hint=f"see `lamella trigger list {full_key(key)}`"
                )
            ended = self._taken(_owner(key), name)
        for active in ended:
            active.stop()
        self._remove(key, name)

    def failed(self, key: str, name: str) -> list[dict[str, Any]]:
        """What a trigger has given up, as `Watcher.failed`.

        Raises:
            UsageError: There is none of this id that watches something.
            StoreError: Its dead-letter place cannot be read.
        """
        return [asdict(letter) for letter in self._watcher(key, name).failed()]

    def retry(self, key: str, name: str, keys: Collection[str] | None) -> dict[str, str | None]:
        """Put back what a trigger has given up, as `Watcher.retry`.

        Raises:
            UsageError: There is none of this id that watches something, or it has not given up such a key.
            StoreError: A place cannot be read or written.
        """
        return self._watcher(key, name).retry(keys)

    def _watcher(self, key: str, name: str) -> Watcher:
        with self._lock:
            found = self._watchers.get((_owner(key), name))
        if found is None:
            raise UsageError(
                f"`{full_key(key)}` has no active trigger `{name}` that watches objects",
                hint=f"see `lamella trigger list {full_key(key)}`",
            )
        return found

    def used(self, key: str) -> None:
        """A request has come for a model, which keeps its functions warm by itself."""
        with self._lock:
            found = list(self._warming_of(key))
        for warming in found:
            warming.used()

    def _warming_of(self, key: str) -> Iterator[KeepWarm]:
        """What keeps a model warm; an address without a model means the only one."""
        model = read_address(key).model
        for (owner, _), active in self._warming.items():
            other = read_address(active.warming.deployment).model
            if owner == _owner(key) and (model is None or other is None or model == other):
                yield active

    def stop(self, key: str) -> None:
        """End the triggers of a deployment that is about to be deleted, its folder with it."""
        with self._lock:
            ended = self._taken(_owner(key), None)
        _stop_all(ended)

    def close(self) -> None:
        """End all of them. They stay in their files, for the next start."""
        with self._lock:
            ended: list[Watcher | KeepWarm] = [*self._watchers.values(), *self._warming.values()]
            self._watchers.clear()
            self._warming.clear()
        _stop_all(ended)

    def _activate(self, trigger: Trigger | Warming) -> None:
        self._begin(trigger, self._made(trigger))

    def _made(self, trigger: Trigger | Warming) -> Watcher | KeepWarm:
        if isinstance(trigger, Warming):
            return keep_warm(trigger, self._target)
        others = [other for other in self._all() if isinstance(other, Trigger)]
        folder = self._path(trigger.deployment, trigger.id).with_suffix("")
        return Watcher(trigger, self._find(trigger.deployment), folder, find=self._find, others=others)

    def _begin(self, trigger: Trigger | Warming, active: Watcher | KeepWarm) -> None:
        place = _owner(trigger.deployment), trigger.id
        if isinstance(active, Watcher):
            self._watchers[place] = active
        else:
            self._warming[place] = active
        active.start()

    def _all(self) -> Iterator[Trigger | Warming]:
        for watcher in self._watchers.values():
            yield watcher.trigger
        for warming in self._warming.values():
            yield warming.warming

    def _taken(self, key: str, name: str | None) -> list[Watcher | KeepWarm]:
        """What is active for a deployment, or only its trigger of this id, taken out of what is."""
        ended: list[Watcher | KeepWarm] = []
        for place in [*self._watchers, *self._warming, *self._failures]:
            if place[0] == key and name in (None, place[1]):
                self._failures.pop(place, None)
                active = self._watchers.pop(place, None) or self._warming.pop(place, None)
                ended += [] if active is None else [active]
        return ended

    def _find(self, key: str) -> Deployed:
        return on_target(self._target, key, used=self.used)

    def _view(self, trigger: Trigger | Warming) -> dict[str, Any]:
        view = {**to_json(trigger), "active": True}
        del view["schema"]
        if isinstance(trigger, Trigger):
            watched = self._watchers[_owner(trigger.deployment), trigger.id].status()
            return {
                **view,
                "output": shown(trigger.output),
                "done": watched.done,
                "given_up": watched.given_up,
                "waiting": watched.waiting,
                "last_error": watched.last_error,
            }
        warming = self._warming[_owner(trigger.deployment), trigger.id]
        return {**view, "pings": warming.pings, "last_error": warming.last_error}

    def _path(self, key: str, name: str) -> Path:
        return self._folder / _owner(key) / _FOLDER / f"{name}.json"

    def _remove(self, key: str, name: str) -> None:
        path = self._path(key, name)
        path.unlink(missing_ok=True)
        remove_tree(path.with_suffix(""))


def _owner(key: str) -> str:
    """The deployment of a model, in whose folder its triggers lie."""
    return read_address(key).key


def _concerns(trigger: Trigger | Warming, key: str) -> bool:
    """Whether a trigger is one of a deployment, or of the model of it that is named."""
    asked, own = read_address(key), read_address(trigger.deployment)
    return own.key == asked.key and asked.model in (None, own.model)


def _stop_all(active: list[Watcher | KeepWarm]) -> None:
    """All at once: each waits for what is under way."""
    if active:
        with ThreadPoolExecutor(len(active), thread_name_prefix="lamella-stop") as pool:
            list(pool.map(lambda one: one.stop(), active))


def _read(path: Path, key: str) -> Trigger | Warming:
    try:
        found = from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"`{path}` is damaged: {error}", hint="remove the trigger, and add it again") from error
    if (_owner(found.deployment), found.id) != (key, path.stem):
        raise UsageError(f"`{path}` is that of another trigger", hint="remove the trigger, and add it again")
    return found


def _write(path: Path, trigger: Trigger | Warming) -> None:
    """Whole or not at all, and on the disk before anything is done for it. Its user's alone: URLs may hold secrets."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(to_json(trigger), file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
