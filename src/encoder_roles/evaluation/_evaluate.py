"""Makes `import evaluate` quick. Import it before lmms-eval.

lmms-eval imports Hugging Face's evaluate, for metrics of a hub that no task here has. evaluate imports all
pipelines of transformers, which takes as long as everything else that lmms-eval imports, and does without
them where there are none. So there are none while it is imported; afterwards they can be imported as ever.
"""

from __future__ import annotations

import sys

PIPELINES = "transformers.pipelines"


def import_evaluate() -> None:
    """Import evaluate without transformers' pipelines, unless either is there already."""
    if PIPELINES in sys.modules:
        return
    sys.modules[PIPELINES] = None  # type: ignore[assignment]  # an import of it is an ImportError
    try:
        import evaluate  # noqa: F401
    finally:
        del sys.modules[PIPELINES]


import_evaluate()
