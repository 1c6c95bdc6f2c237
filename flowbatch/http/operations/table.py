"""Every operation with its place and the action that it needs. What is not here does not exist."""

from __future__ import annotations

from typing import Final

from flowbatch.http.calls import Route
from flowbatch.http.operations import (
    consumables,
    control,
    definitions,
    environments,
    jobs,
    places,
    queues,
    refused,
    scheduling_policies,
    submission,
    tags,
)

_READS: Final = ("Describe", "List", "Get")
TAGS_PATH: Final = "/v1/tags/"

OPERATIONS: Final = {
    "CancelJob": control.cancel_job,
    "CancelJobs": control.cancel_jobs,
    "TerminateJob": control.terminate_job,
    "TerminateJobs": control.terminate_jobs,
    "SubmitJob": submission.submit_job,
    "DescribeJobs": jobs.describe_jobs,
    "ListJobs": jobs.list_jobs,
    "RegisterJobDefinition": definitions.register_job_definition,
    "DescribeJobDefinitions": definitions.describe_job_definitions,
    "DeregisterJobDefinition": definitions.deregister_job_definition,
    "DescribeJobQueues": places.describe_job_queues,
    "DescribeComputeEnvironments": places.describe_compute_environments,
    "CreateComputeEnvironment": environments.create_compute_environment,
    "UpdateComputeEnvironment": environments.update_compute_environment,
    "DeleteComputeEnvironment": environments.delete_compute_environment,
    "CreateJobQueue": queues.create_job_queue,
    "UpdateJobQueue": queues.update_job_queue,
    "DeleteJobQueue": queues.delete_job_queue,
    "CreateSchedulingPolicy": scheduling_policies.create_scheduling_policy,
    "DescribeSchedulingPolicies": scheduling_policies.describe_scheduling_policies,
    "UpdateSchedulingPolicy": scheduling_policies.update_scheduling_policy,
    "DeleteSchedulingPolicy": scheduling_policies.delete_scheduling_policy,
    "ListSchedulingPolicies": scheduling_policies.list_scheduling_policies,
    "CreateConsumableResource": consumables.create_consumable_resource,
    "DescribeConsumableResource": consumables.describe_consumable_resource,
    "UpdateConsumableResource": consumables.update_consumable_resource,
    "DeleteConsumableResource": consumables.delete_consumable_resource,
    "ListConsumableResources": consumables.list_consumable_resources,
    "ListJobsByConsumableResource": consumables.list_jobs_by_consumable_resource,
    "GetJobQueueSnapshot": places.get_job_queue_snapshot,
    **{name: refused.sagemaker(name) for name in refused.SAGEMAKER},
}
OF_ONE: Final = {
    "CancelJobs": "CancelJob",
    "TerminateJobs": "TerminateJob",
    "TerminateServiceJobs": "TerminateServiceJob",
}
BODIES: Final = {"SubmitJob": submission.SUBMIT_SIZE_MAX, "RegisterJobDefinition": definitions.SIZE_MAX}


def routes() -> dict[tuple[str, str], Route]:
    """POST /v1/submitjob and the like."""
    found = {}
    for name, act in OPERATIONS.items():
        action = f"batch:{OF_ONE.get(name, name)}"  # there are no actions of the bulk operations
        route = Route(name, action, act, name.startswith(_READS))
        if name in BODIES:
            route = Route(name, action, act, route.reads, BODIES[name])
        found["POST", f"/v1/{name.lower()}"] = route
    return found


def prefixed() -> dict[tuple[str, str], Route]:
    """Those whose path ends with an ARN."""
    return {
        ("GET", TAGS_PATH): Route(
            "ListTagsForResource", "batch:ListTagsForResource", tags.list_tags_for_resource, True
        ),
        ("POST", TAGS_PATH): Route("TagResource", "batch:TagResource", tags.tag_resource),
        ("DELETE", TAGS_PATH): Route("UntagResource", "batch:UntagResource", tags.untag_resource),
    }
