"""Names that the shell completes (`medloop --install-completion`)."""

from __future__ import annotations


def preset_names(incomplete: str) -> list[str]:
    """The shipped presets that begin so."""
    from medloop.presets import shipped_names

    return [name for name in shipped_names() if name.startswith(incomplete)]


def pipeline_names(incomplete: str) -> list[str]:
    """The installed pipelines that begin so."""
    from medloop.settings import list_pipelines

    return [name for name in list_pipelines() if name.startswith(incomplete)]
