"""Names that are needed where CDK isn't."""

STACK_NAME = "medloop"
IMAGES_PROJECT = "medloop-images"
"""CodeBuild's project that builds the containers."""
SOURCE_KEY = "source/medloop.zip"
"""Where in the artefact bucket it finds the checkout."""
