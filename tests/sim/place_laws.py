"""Laws of environments that share a host, by the rows of what lives: guard, nodes, Spot."""

from __future__ import annotations

from collections import defaultdict

from flowbatch.core.ready import Group
from flowbatch.core.rooms import HOST
from flowbatch.core.scheduler import reservations
from flowbatch.core.state import EnvironmentState, Live, State
from flowbatch.model.effects import Effect, Launch, Stop
from flowbatch.model.ending import Halt
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.places import PlaceStatus
from flowbatch.model.resources import NOTHING, Resources, sum_of
from flowbatch.model.status import Status
from tests.sim.store import DictStore


def fits_or_shrinks(used: Resources, most: Resources, before: Resources) -> bool:
    """Within the limit; or it was above, because the limit was lowered, and has not grown."""
    return all(now <= limit or now <= then for now, limit, then in zip(used, most, before, strict=True))


class PlaceLaws:
    def __init__(self, store: DictStore) -> None:
        self.store = store
        self.host: Resources | None = None
        self.holder: tuple[Group, Millis | None] | None = None
        self.edition = 0  # of the places, before this turn
        self.waited: dict[tuple[str, Resources], Millis] = {}  # since when, before this turn
        self.alive: set[tuple[JobId, int, int]] = (
            set()
        )  # attempts after the turn before: what is launched again is not new
        self.asked: set[tuple[JobId, int, int]] = set()  # taken back by then: a crew is told again
        self.before: dict[tuple[str, str], Resources] = {}  # what was held after the turn before

    def held(self) -> dict[tuple[str, str], Resources]:
        """By rows: (environment, node) → what its live attempts hold; ("", "") is the host."""
        sums: defaultdict[tuple[str, str], Resources] = defaultdict(lambda: NOTHING)
        for (no, _), row in self.store.live.items():
            shape, place = self.store.job_plans[no].spec.resources, row.environment or ""
            if row.memory_mib:
                shape = shape._replace(memory_mib=row.memory_mib)
            sums[place, ""] = sums[place, ""].plus(shape)
            if row.node:
                sums[place, row.node] = sums[place, row.node].plus(shape)
        if sums:
            sums["", ""] = sum_of(used for (_, node), used in sums.items() if not node)
        return sums

    def look_at_turn(self, state: State, effects: list[Effect], now: Millis) -> None:
        """After the commit."""
        grown = self.look_at_rooms(state)
        self.look_at_minima(state, grown)
        self.look_at_homes(state)
        self.look_at_starts(state, effects, now)
        self.look_at_reclaims(state, effects)
        if not state.draining:
            self.look_at_claims(state, now)

    def note_holder(self, state: State, now: Millis) -> None:
        """Before a turn: who holds the reservation of the host."""
        group = reservations(state, now).get(HOST)
        self.holder, self.edition = None if group is None else (group, group.blocked_since), state.edition
        groups = ((queue.spec.name, each) for queue in state.queues.values() for each in queue.groups.values())
        self.waited = {
            (name, each.key.shape): each.blocked_since for name, each in groups if each.blocked_since is not None
        }

    def look_at_rooms(self, state: State) -> Resources:
        """Nothing exceeds its limit: environments, nodes, the host. Returns what the host held before."""
        held, before_turn = self.held(), self.held_of_host()
        for slot, used in held.items():
            before = self.before.get(slot, NOTHING)
            if slot == ("", ""):
                assert self.host is None or fits_or_shrinks(used, self.host, before), (
                    f"{used} held of the host's {self.host}"
                )
                continue
            place = state.environments[slot[0]].spec
            room = place.total()
            if slot[1]:
                room = next(node.capacity for node in place.nodes if node.name == slot[1])
            assert fits_or_shrinks(used, room, before), f"{slot}: {used} held of {room}"
        self.before = dict(held)
        return before_turn

    def look_at_minima(self, state: State, before: Resources) -> None:
        """What is kept for an environment nobody else has taken."""
        if self.host is None or self.held_of_host().vcpus_milli <= before.vcpus_milli:
            return
        spoken_for = sum(
            max(self.before.get((place.name, ""), NOTHING).vcpus_milli, place.spec.min_vcpus_milli)
            for place in state.environments.values()
        )
        assert spoken_for <= self.host.vcpus_milli, f"{spoken_for} held and kept of the host's {self.host}"

    def look_at_homes(self, state: State) -> None:
        """What lives has its place: a node where there are nodes. A queue that is deleted has nothing that waits."""
        for live in state.live.values():
            place = live.environment
            assert state.environments.get(place.name) is place, f"{live.key.id}: its environment {place.name} is gone"
            assert place.spec.managed or live.node is not None, f"{live.key.id}: on no node of {place.name}"
        for job in state.jobs.values():
            queue = state.queues.get(job.spec.queue)
            if queue is not None and queue.status is PlaceStatus.DELETING:
                waits = job.tasks - job.running - job.counts[Status.SUCCEEDED] - job.counts[Status.FAILED]
                assert not waits, f"{job.id}: {waits} tasks wait in a queue that is being deleted"

    def look_at_starts(self, state: State, effects: list[Effect], now: Millis) -> None:
        """Nothing starts where it must not, nor takes what the host keeps for the job that has waited longest."""
        launched = {effect.key[:3] for effect in effects if isinstance(effect, Launch)} - self.alive
        fresh = [live for live in state.live.values() if live.key[:3] in launched]
        for live in fresh:
            assert live.environment.takes_work, (
                f"{live.key.id}: started in {live.environment.name}, which takes nothing"
            )
            assert live.node is None or not live.node.spec.draining, f"{live.key.id}: started on a draining node"
        group = reservations(state, now).get(HOST) if fresh and self.holder is not None else None
        if self.host is None or group is None or (group, group.blocked_since) != self.holder:
            return
        if state.edition != self.edition:
            return  # another may have held it for a moment, by places that were changed
        if any(self.had_waited_as_long(live, group) and live.resources != group.key.shape for live in fresh):
            return  # it may have held the reservation before, with a share of another size
        others = [live for live in fresh if not self.may_have_held(live, group)]
        free = self.host.minus(self.held_of_host()).plus(
            sum_of(live.resources for live in fresh if live not in others)
        )  # these may have come after them
        for live in others:
            for need, have, kept in zip(live.resources, free, group.key.shape, strict=True):
                assert not need or have >= kept, f"{live.key.id}: took what the host keeps for {group.key.shape}"

    def may_have_held(self, live: Live, group: Group) -> bool:
        """Whether the reservation does not bind what has just started: Spot has its own; who had waited as long as its holder may
        have held it within the turn; where shares take turns, a job that comes may be the one that has waited longest."""
        if live.environment.spec.spot or live.resources == group.key.shape or live.queue.fair is not None:
            return True
        return self.had_waited_as_long(live, group)

    def had_waited_as_long(self, live: Live, group: Group) -> bool:
        since = self.waited.get((live.queue.spec.name, live.resources))
        return since is not None and since <= (group.blocked_since or 0)

    def look_at_reclaims(self, state: State, effects: list[Effect]) -> None:
        """Only Spot and what is being replaced are taken back; newest first; nothing of what has just been given."""
        launched = {effect.key[:3] for effect in effects if isinstance(effect, Launch)} - self.alive
        self.alive = {live.key[:3] for live in state.live.values()}
        stopped = {effect.key[:3] for effect in effects if isinstance(effect, Stop) and effect.why is Halt.RECLAIM}
        assert not launched & stopped, f"given and taken back in one turn: {launched & stopped}"
        alive = list(state.live.values())
        asked, self.asked = self.asked, {live.key[:3] for live in alive if live.halt is Halt.RECLAIM}
        for live in alive:
            if live.key[:3] in stopped - asked and live.changed == state.turn:
                place = live.environment
                assert place.spec.spot or place.replace_at is not None, f"{live.key.id}: taken back from {place.name}"
                if place.spec.spot and place.replace_at is None:
                    self.look_at_order(live, alive)

    def look_at_order(self, victim: Live, alive: list[Live]) -> None:
        for other in alive:
            alike = other.environment.spec.spot and (other.queue, other.resources) == (victim.queue, victim.resources)
            if alike and other.halt is Halt.NONE and other.started_at is not None:
                newer = victim.started_at is None or victim.started_at >= other.started_at
                assert newer, f"{victim.key.id} is taken back, {other.key.id} is newer"

    def look_at_claims(self, state: State, now: Millis) -> None:
        """Spot always gives back: no on-demand head waits for room that Spot of other queues has and was not asked for."""
        if self.host is None:
            return
        holders = reservations(state, now)
        heads: list[tuple[str, Resources, dict[str, bool | None]]] = []
        promised: defaultdict[str, Resources] = defaultdict(
            Resources
        )  # of environments and of the host, to heads that have room coming
        for queue in state.queues.values():
            full = queue.spec.max_running is not None and queue.live >= queue.spec.max_running
            reserves = queue.spec.policy is not None and bool(queue.spec.policy.reservation)
            for group in queue.groups.values():
                entry = None if full else group.head()
                if entry is None:
                    continue
                if reserves or group.key.tokens:  # may hold it back, whatever room there is, or may not
                    all_of_it = group.key.shape.times(sum(each.hi - each.lo for each in group.entries()))
                    for name in {HOST, *(environment.name for environment, _ in state.places_of(entry.job))}:
                        promised[name] = promised[name].plus(all_of_it)
                    continue
                given: dict[str, bool | None] = {}
                for environment, _ in state.places_of(entry.job):
                    if environment.spec.spot and environment.takes_work:
                        break  # content with Spot
                    if environment.takes_work:
                        given[environment.name] = self.prospect(state, environment, group, queue.spec.name, holders)
                        if given[environment.name]:
                            promised[environment.name] = promised[environment.name].plus(group.key.shape)
                if True in given.values():
                    promised[HOST] = promised[HOST].plus(group.key.shape)
                heads.append((queue.spec.name, group.key.shape, given))
        for name, shape, given in heads:
            held = [
                place
                for place, its in given.items()
                if its is False
                and any(shape.fits(room.minus(promised[place])) for room in open_rooms(state, place))
                and fits(shape, self.with_spot(state, place, name).minus(promised[HOST]))
            ]
            assert True in given.values() or not held, f"{name} waits for {shape}, and Spot holds it in {held}"

    def prospect(
        self, state: State, environment: EnvironmentState, group: Group, queue: str, holders: dict[str, Group]
    ) -> bool | None:
        """Of a head that waits: True where it gets its room with what is coming, False where Spot holds that room and was not
        asked for it, None where it must wait for others."""
        assert self.host is not None
        shape = group.key.shape
        others = [holders[name] for name in (environment.name, HOST) if name in holders and holders[name] is not group]
        if others or not any(shape.fits(room) for room in open_rooms(state, environment.name)):
            return None
        if fits(shape, self.with_spot(state, environment.name, None)):
            return True
        return False if fits(shape, self.with_spot(state, environment.name, queue)) else None

    def with_spot(self, state: State, environment: str, queue: str | None) -> Resources:
        """What the host has for an environment with what Spot is giving back already, and for a head of that queue with all that Spot
        of other queues holds."""
        assert self.host is not None
        spot = [live for live in state.live.values() if live.environment.spec.spot]
        taken = [live for live in spot if live.halt is not Halt.NONE or queue not in (None, live.queue.spec.name)]
        kept = self.held_of_host().plus(state.host.minima(state.environments, environment))
        return self.host.minus(kept).plus(sum_of(each.resources for each in taken))

    def held_of_host(self) -> Resources:
        return self.before.get(("", ""), NOTHING)


def open_rooms(state: State, name: str) -> list[Resources]:
    environment = state.environments[name]
    if environment.spec.managed:
        return [environment.free()]
    return [node.free() for node in environment.nodes.values() if not node.spec.draining]


def fits(shape: Resources, free: Resources) -> bool:
    return all(need <= have for need, have in zip(shape, free, strict=True) if need)
