"""Registers our model with transformers' Auto classes, whichever package is imported first.

Every command runs `import encoder_roles`, and transformers takes seconds to import, so this module does not
import it. If the Auto classes are already loaded, it imports `models.vlm`, which registers with them.
Otherwise it imports `models.vlm` as soon as the Auto classes are loaded.
"""

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
    """Import `models.vlm` now, or as soon as transformers' Auto classes are imported."""
    if AUTO_CLASSES in sys.modules:
        importlib.import_module(OURS)
    else:
        sys.meta_path.insert(0, _WhenImported())


class _WhenImported(MetaPathFinder):
    """Waits for the import of the Auto classes, and imports our model after it."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # the protocol has it, and `target`
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
