"""transformers' Auto classes told of our model, whichever of the two packages is imported first.

`import encoder_roles` starts every command, also those that never load a model, and transformers takes
seconds to import; so it is not imported here. If its Auto classes are loaded already, `models.vlm`, which
registers with them, is imported at once, and otherwise as soon as somebody loads them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

AUTO_CLASSES, OURS = "transformers.models.auto.modeling_auto", "encoder_roles.models.vlm"


def register() -> None:
    """Have `models.vlm` imported once transformers' Auto classes are."""
    if AUTO_CLASSES in sys.modules:
        importlib.import_module(OURS)
    else:
        sys.meta_path.insert(0, _WhenImported())


class _WhenImported(MetaPathFinder):
    """Sees one import, that of the Auto classes, and has ours follow it."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # the protocol's, as is `target`
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if name != AUTO_CLASSES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                importlib.import_module(OURS)

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec
