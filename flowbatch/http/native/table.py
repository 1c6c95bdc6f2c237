"""Every route of the native API. What is not here does not exist."""

from __future__ import annotations

from typing import Any, Final

from flowbatch.http.calls import Call
from flowbatch.http.native import (
    changing,
    definitions,
    document,
    environment_changes,
    logs,
    overviews,
    policy_changes,
    queue_changes,
    reading,
    running,
    shapes,
    single,
    socket,
    tokens,
)
from flowbatch.http.native import overview_shapes as said
from flowbatch.http.native.definition_shapes import DefinitionsSaid
from flowbatch.http.native.document import JSON, PACKED
from flowbatch.http.native.routes import NativeRoute, Router, get, post
from flowbatch.http.native.streams import EVENTS
from flowbatch.model.jobspec import JobPlan, RunPlan


async def get_document(call: Call) -> Any:
    """This document."""
    call.allow()
    return document.whole()


def environments() -> tuple[NativeRoute, ...]:
    """Their changes, and those of their nodes."""
    made, one, node = "/environments", "/environments/{environment}", "/environments/{environment}/nodes/{node}"
    changes = environment_changes
    return (
        post(made, "CreateEnvironment", changes.create_environment, takes=changes.NewEnvironment),
        post(one, "UpdateEnvironment", changes.update_environment, takes=changes.EnvironmentUpdate),
        post(f"{one}/delete", "DeleteEnvironment", changes.delete_environment, takes=queue_changes.Deletion),
        post(node, "AddNode", changes.add_node, takes=changes.NodeWords),
        post(f"{node}/drain", "DrainNode", changes.drain_node, takes=queue_changes.Deletion),
        post(f"{node}/remove", "RemoveNode", changes.remove_node, takes=queue_changes.Deletion),
    )


def scheduling_policies() -> tuple[NativeRoute, ...]:
    """Those that queues share."""
    made, one, changes = "/scheduling-policies", "/scheduling-policies/{policy}", policy_changes
    return (
        get(made, "ListSchedulingPolicies", changes.list_scheduling_policies, changes.PoliciesSaid),
        post(made, "CreateSchedulingPolicy", changes.create_scheduling_policy, takes=changes.NewPolicy),
        post(one, "UpdateSchedulingPolicy", changes.update_scheduling_policy, takes=changes.PolicyUpdate),
        post(f"{one}/delete", "DeleteSchedulingPolicy", changes.delete_scheduling_policy, takes=queue_changes.Deletion),
    )


ROUTES: Final[tuple[NativeRoute, ...]] = (
    get("/runs", "ListRuns", reading.list_runs, shapes.RunsSaid, takes=reading.Page),
    get("/runs/{run}", "GetRun", reading.get_run, shapes.RunDetailsSaid),
    get("/runs/{run}/jobs", "ListJobsOfRun", reading.list_jobs_of_run, shapes.JobsSaid),
    get("/runs/{run}/plan", "GetRunPlan", reading.get_run_plan, RunPlan),
    get("/runs/{run}/follow", "FollowRun", reading.follow_run, kinds=(EVENTS,), each=shapes.ProgressSaid),
    get("/jobs/{job}", "GetJob", reading.get_job, shapes.JobSaid),
    get("/jobs/{job}/plan", "GetJobPlan", reading.get_job_plan, JobPlan),
    get("/jobs/{job}/children", "ListChildren", reading.list_children, shapes.ChildrenSaid, takes=reading.Children),
    get("/jobs/{job}/states", "GetStates", reading.get_states, kinds=(PACKED,)),
    get("/jobs/{job}/attempts", "ListAttempts", reading.list_attempts, shapes.AttemptsSaid, takes=reading.OfTask),
    get("/jobs/{job}/members", "ListMembers", reading.list_members, shapes.MembersSaid, takes=reading.OfTask),
    get("/jobs/{job}/why", "Explain", reading.explain, shapes.WhySaid, takes=reading.OfChild),
    get("/jobs/{job}/log", "GetLog", logs.get_log, takes=logs.Log, kinds=(logs.TEXT,)),
    get("/resolve", "Resolve", reading.resolve, shapes.FoundSaid, takes=reading.Address),
    get(
        "/events",
        "ListEvents",
        reading.list_events,
        shapes.EventsSaid,
        takes=reading.Since,
        kinds=(EVENTS,),
        each=shapes.EventSaid,
    ),
    get("/live", "OpenSocket", socket.open_socket, kinds=(JSON,)),
    get("/openapi.json", "GetDocument", get_document),
    get("/queues", "ListQueues", overviews.list_queues, said.QueuesSaid),
    get("/queues/{queue}", "GetQueue", overviews.get_queue, said.QueueDetailsSaid),
    get("/environments", "ListEnvironments", overviews.list_environments, said.EnvironmentsSaid),
    get("/schedules", "ListSchedules", overviews.list_schedules, said.SchedulesSaid),
    get("/deliveries", "ListDeliveries", overviews.list_deliveries, said.DeliveriesSaid, takes=overviews.Deliveries),
    post("/runs", "SubmitRun", running.submit_run, shapes.SubmittedSaid, takes=running.Submission, once=True),
    post("/jobs", "SubmitJob", single.submit_single, shapes.QueuedSaid, takes=single.Single, once=True),
    post("/queues", "CreateQueue", queue_changes.create_queue, takes=queue_changes.NewQueue),
    post("/queues/{queue}", "UpdateQueue", queue_changes.update_queue, takes=queue_changes.QueueUpdate),
    post("/queues/{queue}/delete", "DeleteQueue", queue_changes.delete_queue, takes=queue_changes.Deletion),
    *scheduling_policies(),
    *environments(),
    get("/tokens", "ListTokens", tokens.list_tokens, said.TokensSaid),
    post("/tokens", "CreateToken", tokens.create_token, takes=tokens.NewToken),
    post("/tokens/{token}", "UpdateToken", tokens.update_token, takes=tokens.TokenUpdate),
    post("/tokens/{token}/delete", "DeleteToken", tokens.delete_token, takes=queue_changes.Deletion),
    get(
        "/definitions",
        "ListDefinitions",
        definitions.list_definitions,
        DefinitionsSaid,
        takes=definitions.Definitions,
    ),
    get(
        "/definitions/{definition}",
        "GetDefinition",
        definitions.get_definition,
        DefinitionsSaid,
        takes=definitions.Revisions,
    ),
    post("/definitions", "RegisterDefinition", definitions.register_definition, takes=definitions.Definition),
    post(
        "/definitions/{definition}/deregister",
        "DeregisterDefinition",
        definitions.deregister_definition,
        takes=queue_changes.Deletion,
    ),
    post("/deliveries/redeliver", "Redeliver", overviews.redeliver, takes=overviews.Redelivery),
    get("/library", "ListLibrary", running.list_library, said.LibrarySaid),
    post("/library/{file}/start", "StartFile", running.start_file, shapes.SubmittedSaid, takes=running.Start),
    post("/sinks/{sink}/test", "TestSink", overviews.test_sink, takes=overviews.Enabling),
    post("/sinks/{sink}/enable", "EnableSink", overviews.enable_sink, takes=overviews.Enabling),
    post("/cancel", "Cancel", changing.cancel, takes=changing.Stop),
    post("/terminate", "Terminate", changing.terminate, takes=changing.Stop),
    post("/retry", "Retry", changing.retry, takes=changing.Change),
)


def router() -> Router:
    return Router(ROUTES)
