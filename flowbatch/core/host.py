"""The host guard: all that runs on this machine shares it (aws-batch.md §10.3).

The guard is what the settings say (`host`), else the machine; then an environment that is declared larger raises it, for what is
declared is taken as given (what AWS's API was told is not). No sum of reservations exceeds it, but where it was lowered under what runs: then nothing starts
until that has shrunk. What an environment's `min_vcpus` keeps is out of reach of all others; Spot leaves beside it what on-demand heads
could start with (reclaim.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.core.capacity import EnvironmentState
from flowbatch.model.jobspec import Environment
from flowbatch.model.resources import NOTHING, Resources, smallest, sum_of


class Host(Struct, eq=False):
    limit: Resources | None = None  # None: nothing is guarded
    fixed: bool = False
    guard: Resources | None = None  # what holds now; None also where one environment alone can never break it
    lowered: bool = False  # more runs than it allows, since it was lowered
    # Each: queue → what Spot leaves to it, and the more of them holds. None: Spot's turn comes later.
    claims: tuple[dict[str, Resources], ...] | None = ()
    known: dict[str, tuple[Environment, Environment]] = field(default_factory=dict)  # since the survey: place → capped

    def survey(self, environments: Iterable[EnvironmentState]) -> None:
        """Environments have come, gone or changed."""
        environments = list(environments)
        self.known.clear()
        for each in environments:
            nodes = (node.used.fits(node.spec.capacity) for node in each.nodes.values())
            each.lowered = not (each.used.fits(each.spec.total()) and all(nodes))
        self.guard, self.lowered = None, False
        if self.limit is None:
            return
        rooms = [room for environment in environments for room in environment.rooms_here()]
        raising = [room for environment in environments for room in taken_as_given(environment)]
        guard = self.limit if self.fixed else largest([self.limit, *raising])
        if len(rooms) > 1 or not all(room.fits(guard) for room in rooms):
            self.guard = guard
            self.lowered = not sum_of(each.used_here() for each in environments).fits(guard)

    def free(self, environments: Mapping[str, EnvironmentState]) -> Resources:
        """What nothing holds. Only where there is a guard."""
        assert self.guard is not None
        return self.guard.minus(sum_of(each.used_here() for each in environments.values()))

    def minima(self, environments: Mapping[str, EnvironmentState], but: str) -> Resources:
        """What is kept for the other environments, idle as they are."""
        return sum_of(
            [each.idle_minimum() for name, each in environments.items() if each.spec.min_vcpus_milli and name != but]
        )

    def claimed(self, but: str) -> Resources:
        """By on-demand heads of other queues."""
        return largest(sum_of(each[queue] for queue in each if queue != but) for each in self.claims or ())

    def open_to(self, environment: EnvironmentState) -> bool:
        """Whether Spot's turn has come, or the environment is none."""
        return self.claims is not None or not (environment.spec.spot and environment.takes_work)

    def ceiling(self, environments: Mapping[str, EnvironmentState], name: str) -> Resources | None:
        """The most that a task in this environment may ever have of the machine; None: nothing but the environment limits it."""
        if self.guard is None:
            return None
        return self.guard.minus(
            Resources(sum(each.spec.min_vcpus_milli for each in environments.values() if each.name != name))
        )

    def capped(self, environments: Mapping[str, EnvironmentState], place: Environment) -> Environment:
        """The environment as large as the host lets it be."""
        known = self.known.get(place.name)
        if known is None or known[0] is not place:
            known = self.known[place.name] = place, self.cap(environments, place)
        return known[1]

    def cap(self, environments: Mapping[str, EnvironmentState], place: Environment) -> Environment:
        ceiling = self.ceiling(environments, place.name)
        if ceiling is None:
            return place
        nodes = (
            replace(node, capacity=smallest(node.capacity, ceiling)) if node.here else node for node in place.nodes
        )
        return replace(place, capacity=smallest(place.capacity, ceiling), nodes=tuple(nodes))


def taken_as_given(environment: EnvironmentState) -> tuple[Resources, ...]:
    """What the machine's owner declared. Who calls AWS's API may say any maxvCpus, and gets no more machine by it."""
    if not environment.spec.aws:
        return environment.rooms_here()
    return () if environment.declared is None else environment.declared.rooms()


def largest(amounts: Iterable[Resources]) -> Resources:
    """The most of each kind."""
    found = NOTHING
    for amount in amounts:
        found = Resources(*map(max, found, amount))
    return found
