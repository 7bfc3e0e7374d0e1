"""Every operation that the local backend has, by service and name; any other is refused."""

from __future__ import annotations

from medloop.local.api import (
    endpoints,
    executions,
    functions,
    identity,
    jobs,
    logs,
    models,
    pipelines,
    registry,
    runtime,
    s3,
    schedules,
    tags,
    tuning,
)
from medloop.local.api.jobs import Handler
from medloop.local.jobs.job import KINDS

_SAGEMAKER: dict[str, Handler] = {
    "CreatePipeline": pipelines.create,
    "UpdatePipeline": pipelines.update,
    "DescribePipeline": pipelines.describe,
    "DeletePipeline": pipelines.delete,
    "ListPipelines": pipelines.list_,
    "ListPipelineVersions": pipelines.list_versions,
    "UpdatePipelineVersion": pipelines.update_version,
    "StartPipelineExecution": executions.start,
    "DescribePipelineExecution": executions.describe,
    "UpdatePipelineExecution": executions.update,
    "StopPipelineExecution": executions.stop,
    "RetryPipelineExecution": executions.retry,
    "ListPipelineExecutions": executions.list_,
    "ListPipelineExecutionSteps": executions.list_steps,
    "ListPipelineParametersForExecution": executions.list_parameters,
    "DescribePipelineDefinitionForExecution": executions.describe_definition,
    "CreateModelPackageGroup": registry.create_group,
    "DescribeModelPackageGroup": registry.describe_group,
    "ListModelPackageGroups": registry.list_groups,
    "DeleteModelPackageGroup": registry.delete_group,
    "CreateModelPackage": registry.create,
    "DescribeModelPackage": registry.describe,
    "ListModelPackages": registry.list_,
    "UpdateModelPackage": registry.update,
    "DeleteModelPackage": registry.delete,
    **models.MODELS.operations(),
    **models.CONFIGS.operations(),
    "CreateEndpoint": endpoints.create,
    "UpdateEndpoint": endpoints.update,
    "DescribeEndpoint": endpoints.describe,
    "ListEndpoints": endpoints.list_,
    "DeleteEndpoint": endpoints.delete,
    **tuning.OPERATIONS,
    "AddTags": tags.add,
    "DeleteTags": tags.delete,
    "ListTags": tags.list_,
}
for _kind in KINDS:
    _SAGEMAKER |= jobs.operations(_kind)

_S3: dict[str, Handler] = {
    "CreateBucket": s3.create_bucket,
    "HeadBucket": s3.head_bucket,
    "GetBucketLocation": s3.get_bucket_location,
    "PutObject": s3.put_object,
    "HeadObject": s3.head_object,
    "GetObject": s3.get_object,
    "CopyObject": s3.copy_object,
    "DeleteObject": s3.delete_object,
    "DeleteObjects": s3.delete_objects,
    "ListObjects": s3.list_objects_v1,
    "ListObjectsV2": s3.list_objects,
    "CreateMultipartUpload": s3.create_upload,
    "UploadPart": s3.upload_part,
    "CompleteMultipartUpload": s3.complete_upload,
    "AbortMultipartUpload": s3.abort_upload,
}

_LAMBDA: dict[str, Handler] = {
    "CreateFunction": functions.create,
    "GetFunction": functions.get,
    "ListFunctions": functions.list_,
    "UpdateFunctionCode": functions.update_code,
    "DeleteFunction": functions.delete,
    "Invoke": functions.invoke,
}

_SCHEDULER: dict[str, Handler] = {
    "CreateSchedule": schedules.create,
    "GetSchedule": schedules.get,
    "ListSchedules": schedules.list_,
    "DeleteSchedule": schedules.delete,
}

OPERATIONS: dict[tuple[str, str], Handler] = {
    **{("sagemaker", name): handler for name, handler in _SAGEMAKER.items()},
    **{("s3", name): handler for name, handler in _S3.items()},
    **{("lambda", name): handler for name, handler in _LAMBDA.items()},
    **{("scheduler", name): handler for name, handler in _SCHEDULER.items()},
    ("sagemaker-runtime", "InvokeEndpoint"): runtime.invoke,
    ("sagemaker-runtime", "InvokeEndpointAsync"): runtime.invoke_async,
    ("sts", "GetCallerIdentity"): identity.get_caller_identity,
    ("iam", "GetRole"): identity.get_role,
    ("logs", "DescribeLogStreams"): logs.describe_streams,
    ("logs", "GetLogEvents"): logs.get_events,
    ("logs", "FilterLogEvents"): logs.filter_events,
}
