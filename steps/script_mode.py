"""Script mode: a training job in SageMaker's own PyTorch image, our code and its requirements brought in at the start.

The SDK would upload both while the definition is made, under a time stamp, so that no two builds agree and the step
cache never hits (sagemaker-python-sdk #2736, #2940, #3555, #4374). Here the code is the container's bundle, which
upsert stores anyway, and the SDK's drivers go to a prefix that their contents name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.bundle import load_container
from medloop.container import paths
from medloop.errors import SettingError

if TYPE_CHECKING:
    from sagemaker.core.training.configs import SourceCode
    from sagemaker.train import ModelTrainer

    from steps.common import Context


def source_code(context: Context, container: str) -> SourceCode:
    """Return a container's bundle as the SDK's source code: the same main.py, the same requirements.

    Args:
        context: The build.
        container: A folder below `containers/`.

    Raises:
        SettingError: Jobs have no network to install requirements from.
    """
    from sagemaker.core.training.configs import SourceCode

    if context.settings.network.isolation:
        raise SettingError(
            "train.mode=script installs its requirements from the network, which network.isolation closes; "
            "set train.mode=container"
        )
    bundle = context.target.bundle(container)
    return SourceCode(
        source_dir=f"s3://{context.target.bucket}/{bundle.key}",
        requirements=f"containers/{container}/requirements.txt",
        entry_script=load_container(container).entry_point,
    )


def environment() -> dict[str, str]:
    """Environment variables that a container's Dockerfile sets by ENV."""
    return {"PYTHONPATH": paths.SCRIPT_CODE, "PYTHONUNBUFFERED": "1"}


def trainer_type(context: Context) -> type[ModelTrainer]:
    """Make the SDK's ModelTrainer, except that a local folder becomes a channel without upload and time stamp."""
    from sagemaker.train import ModelTrainer

    target = context.target

    class ScriptTrainer(ModelTrainer):  # type: ignore[misc]  # the SDK has no types here
        """A ModelTrainer whose channels are named by their contents; upsert stores them."""

        def create_input_data_channel(self, channel_name: str, data_source: Any, *args: Any, **options: Any) -> Any:
            """Make the SDK's channel; a folder of this machine is noted for upsert and replaced by its URI."""
            if isinstance(data_source, str) and Path(data_source).is_dir():
                data_source = target.keep_folder(f"scripts/{channel_name}", Path(data_source))
            return super().create_input_data_channel(channel_name, data_source, *args, **options)

    return ScriptTrainer
