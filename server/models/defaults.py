"""The model of a task where a request names none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engines.manifest import Task
from server.models.model import Model


class Defaults:
    """What the operator set, and for the other tasks the model that was the only one when the task was first served.

    A default stays when models are unloaded or others come: those would give other results without a word.
    """

    def __init__(self, declared: Mapping[Task, str], models: Mapping[str, Model]) -> None:
        """Take what is `declared`; raises ValueError for a default that cannot be."""
        self._names = dict(declared)
        for task, name in declared.items():
            model = models.get(name)
            if model is None:
                raise ValueError(f"the default of {task} is {name!r}, which is not in the models folder")
            if model.engine and task not in model.tasks:
                raise ValueError(f"the default of {task} is {name!r}, which serves only {', '.join(model.tasks)}")
        self.settle(models.values())

    def settle(self, models: Iterable[Model]) -> None:
        """Give the tasks that have no default the model that is the only one to serve them."""
        serving: dict[Task, list[str]] = {}
        for model in models:
            for task in model.tasks:
                serving.setdefault(task, []).append(model.name)
        for task, names in serving.items():
            if len(names) == 1:
                self._names.setdefault(task, names[0])

    def get(self, task: Task) -> str | None:
        """Return the name of the default of `task`, if it has one."""
        return self._names.get(task)

    def lost(self, name: str, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks that would lose their default if `name` served but `tasks`."""
        return [task for task, its in self._names.items() if its == name and task not in tasks]
