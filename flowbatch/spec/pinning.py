"""A compiled run as an engine takes it: with every place and token that it may use, under names that are its own."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from flowbatch.model.jobspec import Environment, JobSpec, Queue, RunPlan


def pinned(plan: RunPlan, environments: tuple[Environment, ...], queues: tuple[Queue, ...]) -> RunPlan:
    """The plan with every place that it can run in: a later life finds them, whatever its settings say.

    What the file itself declares belongs to this run alone and is named so (`1a2b3c4d/farm`, shown by its title): neither the
    settings nor another file may change its limits.
    """
    own_places = {place.name: f"{plan.id[:8]}/{place.name}" for place in plan.environments}
    own_queues = {queue.name: f"{plan.id[:8]}/{queue.name}" for queue in plan.queues}
    places = {
        place.name: replace(
            place, name=own_places.get(place.name, place.name), title=place.title or place.name, aws=""
        )  # what AWS's API was told may be long, and no run needs it
        for place in (*environments, *plan.environments)
    }
    known = {queue.name: queue for queue in (*queues, *plan.queues)}
    used = [queue for name, queue in known.items() if name in {job.spec.queue for job in plan.jobs}]
    kept = tuple(
        replace(
            queue,
            name=own_queues.get(queue.name, queue.name),
            environments=tuple(own_places.get(name, name) for name in queue.environments),
            title=queue.title or queue.name,
        )
        for queue in used
    )
    own_tokens = {token.name: f"{plan.id[:8]}/{token.name}" for token in plan.tokens}
    jobs = tuple(
        replace(job, spec=pinned_spec(job.spec, own_queues, own_tokens))
        if job.spec.queue in own_queues or job.spec.tokens
        else job
        for job in plan.jobs
    )
    tokens = tuple(replace(token, name=own_tokens[token.name]) for token in plan.tokens)
    names = {name for queue in used for name in queue.environments}
    used_places = tuple(place for name, place in places.items() if name in names)
    return replace(plan, jobs=jobs, queues=kept, environments=used_places, tokens=tokens)


def pinned_spec(spec: JobSpec, queues: Mapping[str, str], tokens: Mapping[str, str]) -> JobSpec:
    demand = tuple(sorted((tokens.get(name, name), count) for name, count in spec.tokens))
    return replace(spec, queue=queues.get(spec.queue, spec.queue), tokens=demand)
