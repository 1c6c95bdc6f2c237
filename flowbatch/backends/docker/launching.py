"""Create and start: exactly one start an attempt.

The name makes the create repeatable: a second one conflicts, and what holds the name is adopted where its labels are ours. The
start is sent once per container, by its id. Where no answer came, the container is looked at; where it stands there
unstarted, it is removed and made anew instead of started again: the first request, late in the daemon's socket, then finds
nothing, whereas a second start could run a task twice that had ended in between (D09). The Engine refuses to remove what runs,
so that a start that did arrive wins, and is seen; but not what has ended again by then. So once it is gone the Engine's memory is asked
whether it had begun: then that was the attempt, and it is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from flowbatch.backends.docker import names
from flowbatch.backends.docker.attempts import Attempt
from flowbatch.backends.docker.binds import Pins, Refused, has_binds, pin, swapped
from flowbatch.backends.docker.body import Body, Unfit, create_body, on_shared_network
from flowbatch.backends.docker.disk import is_full
from flowbatch.backends.docker.ends import NO_CODE, UNSEEN, Boot, Look, parse
from flowbatch.backends.docker.errors import EngineError, Kind
from flowbatch.model.container import HOLDER_IMAGE, Pull
from flowbatch.model.ending import Evidence

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api
    from flowbatch.backends.docker.disk import Disk
    from flowbatch.backends.docker.health import Health
    from flowbatch.backends.docker.networks import Networks
    from flowbatch.backends.docker.pulls import Puller

STARTS: Final = 8  # at a time: runc is bound by the processor, more only take longer (D34)
TRIES: Final = 5  # of what the Engine failed at
PAUSE_FIRST_S: Final = 0.2
PAUSE_LAST_S: Final = 10.0
UNDO_AGAIN_S: Final = 0.05
NO_IMAGE: Final = "no such image"

Outcome = Look | Evidence  # it has begun (and perhaps ended); or it never will


class Again(Exception):
    """To be tried once more; `counts`: not for ever."""

    def __init__(self, message: str, *, counts: bool) -> None:
        self.counts = counts
        super().__init__(message)


class NoImage(Exception):
    pass


class Launcher:
    def __init__(
        self, api: Api, health: Health, disk: Disk, puller: Puller, networks: Networks, instance: str, boot: Boot
    ) -> None:
        self._api = api
        self._health = health
        self._disk = disk
        self._puller = puller
        self._networks = networks
        self._instance = instance
        self._boot = boot
        self._local = api.socket_path is not None
        self._starts = anyio.CapacityLimiter(STARTS)

    async def launch(self, attempt: Attempt) -> Outcome:
        """A stop that comes in time prevents it; one that comes too late is left to whoever follows the attempt."""
        order = attempt.order
        assert order is not None
        assert order.container is not None
        attempt.name = names.container_name(self._instance, attempt.key)
        image, pull = order.container.image, order.container.pull
        try:
            body = create_body(order, order.container, self._instance, self._boot.id, local=self._local)
        except Unfit as error:
            return Evidence(start_error=f"CannotCreateContainerError: {error}")
        if pull is Pull.ALWAYS and (problem := await self._pull(attempt, image)):
            return Evidence(start_error=f"CannotPullContainerError: {problem}")
        pulled, left, pause = pull is Pull.ALWAYS, TRIES, PAUSE_FIRST_S
        while attempt.grace_ms is None:
            try:
                found = await self._in_turn(attempt, body)
                if found is not None:
                    return found
                continue  # stopped
            except NoImage:
                if pulled or (pull is Pull.NEVER and image != HOLDER_IMAGE):
                    why = "and the job's pull policy is never" if pull is Pull.NEVER else "although it was pulled"
                    return Evidence(start_error=f"CannotPullContainerError: {image} is not present, {why}")
                if problem := await self._pull(attempt, image):
                    return Evidence(start_error=f"CannotPullContainerError: {problem}")
                pulled = True
                continue
            except Again as again:
                left -= again.counts
                if not left:
                    return await self._give_up(attempt, str(again))
            await self._wait(attempt, pause)
            pause = min(pause * 2, PAUSE_LAST_S)
        return await self.withdraw(attempt)

    async def _in_turn(self, attempt: Attempt, body: Body) -> Outcome | None:
        """None: stopped while it waited for its turn."""
        turn = False
        with anyio.CancelScope() as attempt.waiting:
            await self._health.settled()
            await self._disk.room()
            await self._starts.acquire_on_behalf_of(attempt)
            turn = True
        attempt.waiting = None
        if not turn:
            return None
        try:
            return None if attempt.grace_ms is not None else await self._once(attempt, body)
        finally:
            self._starts.release_on_behalf_of(attempt)

    async def _once(self, attempt: Attempt, body: Body) -> Outcome | None:
        try:
            pins = await self._pin(attempt)
        except Refused as problem:
            return await self._give_up(attempt, str(problem))
        with pins:
            found = await self._begin(attempt, body)
            if found is not None and pins.found and not isinstance(found, Evidence):
                attempt.foul = await anyio.to_thread.run_sync(swapped, pins, found.pid, found.id)
            return found

    async def _begin(self, attempt: Attempt, body: Body) -> Outcome | None:
        if attempt.order is not None and on_shared_network(attempt.order.place):
            await self._ensure_network()
        adopted = await self._create(attempt, body)
        if adopted is not None:
            return adopted
        if attempt.grace_ms is not None:
            return None
        failure: EngineError | None = None
        try:
            await self._api.start(attempt.id)
        except EngineError as error:
            failure = error
            if error.kind is Kind.UNKNOWN:
                self._health.doubt()
                await self._health.settled()
        look = await self._look(attempt.id)
        if look is None or look.leaving or look.startable:
            seen = await self._undo(attempt.id)
            if seen is not None:
                return seen
            message = "it did not begin" if failure is None else failure.message
            raise Again(message, counts=failure is None or failure.kind is not Kind.UNKNOWN)
        if not look.begun and self._networks.name in look.error:  # removed since we made it
            self._networks.made = False
            await self._take_away(look)
            raise Again(look.error, counts=True)
        if not look.begun and is_full(look.error):
            await self._take_away(look)
            raise Again(look.error, counts=False)
        return look

    async def _pin(self, attempt: Attempt) -> Pins:
        """What another machine's Engine mounts is not ours to look at. Raises Refused."""
        container = None if attempt.order is None else attempt.order.container
        if not self._local or container is None or not has_binds(container):
            return Pins()
        return await anyio.to_thread.run_sync(pin, container)

    async def _ensure_network(self) -> None:
        try:
            await self._networks.ensure()
        except EngineError as error:
            if error.kind is Kind.UNKNOWN:
                self._health.doubt()
            raise Again(error.message, counts=error.kind is not Kind.UNKNOWN) from None

    async def _create(self, attempt: Attempt, body: Body) -> Outcome | None:
        """None: there is a fresh container that waits for its start, `attempt.id`."""
        attempt.sent = True
        try:
            attempt.id = await self._api.create(attempt.name, body)
        except EngineError as error:
            match error.kind:
                case Kind.CONFLICT:
                    return await self._adopt(attempt, body, error.message)
                case Kind.NOT_FOUND if NO_IMAGE in error.message.lower():
                    raise NoImage from None
                case Kind.NOT_FOUND | Kind.REFUSED:
                    return Evidence(start_error=f"CannotCreateContainerError: {error.message}")
                case Kind.UNKNOWN:
                    self._health.doubt()
                    raise Again(error.message, counts=False) from None
                case Kind.FAILED:
                    raise Again(error.message, counts=not is_full(error.message)) from None
        return None

    async def _adopt(self, attempt: Attempt, body: Body, conflict: str) -> Outcome | None:
        look = await self._look(attempt.name)
        if look is None:
            raise Again(conflict, counts=True)
        if names.attempt_of(self._instance, look.name, look.labels) != attempt.key:
            text = f"the container {look.id[:12]}, which is not flowbatch's, has the name {attempt.name}: remove or rename it"
            return Evidence(start_error=f"CannotCreateContainerError: {text}")
        if look.leaving:
            raise Again(conflict, counts=False)
        attempt.id = look.id
        if not look.startable:
            return look
        if look.labels.get(names.SPEC) != body["Labels"][names.SPEC]:
            await self._take_away(look)
            raise Again("it was made for other words", counts=False)
        return None

    async def _look(self, container: str) -> Look | None:
        while True:
            try:
                return parse(await self._api.inspect(container), self._api.ahead_ms)
            except EngineError as error:
                if error.kind is Kind.NOT_FOUND:
                    return None
                self._health.doubt()
                await anyio.sleep(PAUSE_FIRST_S)
                await self._health.settled()

    async def _undo(self, container: str) -> Outcome | None:
        """Of one that has not begun: takes it away, and is sure of it. Otherwise what became of it."""
        while True:
            look = await self._look(container)
            if look is None:
                return UNSEEN if await self._began(container) else None
            if look.startable:
                await self._take_away(look)
            elif not look.leaving:
                return look
            await anyio.sleep(UNDO_AGAIN_S)

    async def _began(self, container: str) -> bool:
        while True:
            try:
                return await self._api.began(container)
            except EngineError:
                self._health.doubt()
                await anyio.sleep(PAUSE_FIRST_S)
                await self._health.settled()

    async def _take_away(self, look: Look) -> None:
        """What was created and has not begun. That it begins meanwhile is seen by the next look: nothing is forced."""
        try:
            await self._api.remove(look.id)
        except EngineError as error:
            if error.kind is Kind.UNKNOWN:
                self._health.doubt()

    async def _pull(self, attempt: Attempt, image: str) -> str | None:
        """What went wrong; nothing where a stop ended the wait."""
        if image == HOLDER_IMAGE:
            return await self._networks.make_holder(image)
        error = None
        attempt.pulling = image
        with anyio.CancelScope() as attempt.waiting:
            error = await self._puller.pull(image)
        attempt.waiting = attempt.pulling = None
        return error

    async def _wait(self, attempt: Attempt, seconds: float) -> None:
        with anyio.CancelScope() as attempt.waiting:
            await anyio.sleep(seconds)
        attempt.waiting = None

    async def _give_up(self, attempt: Attempt, message: str) -> Outcome:
        outcome = await self.withdraw(attempt)
        if isinstance(outcome, Look):
            return outcome
        return Evidence(start_error=f"CannotCreateContainerError: {message}")

    async def withdraw(self, attempt: Attempt) -> Outcome:
        """It shall not begin: answered once it is certain that nothing of that name will."""
        if not attempt.sent:
            return NO_CODE
        while True:
            look = await self._look(attempt.name)
            if look is None or names.attempt_of(self._instance, look.name, look.labels) != attempt.key:
                return NO_CODE
            seen = await self._undo(look.id)
            if seen is not None:
                attempt.id = look.id
                return seen
