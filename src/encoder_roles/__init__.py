"""What each vision encoder of a multi-encoder vision-language model contributes.

    import encoder_roles as er
    analysis = er.analyse_table("scores.csv")
    scores = {"clip": (53.2, 0.5), "sam": (34.8, 0.5)}  # subset: score, standard error
    print(er.advise(scores, ("clip", "dinov2", "sam"), [er.Goal(at_most=2)]))

Importing this package loads neither torch nor pandas: each public name is imported when it is first used.
After `import encoder_roles`, transformers' AutoConfig and AutoModel know the models of this package.
"""

from pkgutil import resolve_name as _resolve_name

from encoder_roles import _auto

# public name -> module:name. __init__.pyi gives the types; a real import here would make every command depend
# on the analysis, and the manifest would then call all results outdated after an edit of it
_PUBLIC = {
    "Advice": "encoder_roles.analysis.advisor.advisor:Advice",
    "Analysis": "encoder_roles.analysis.external.scores:Analysis",
    "Goal": "encoder_roles.analysis.advisor.advisor:Goal",
    "StudyError": "encoder_roles.study.names:StudyError",
    "advise": "encoder_roles.analysis.advisor.advisor:advise",
    "analyse_table": "encoder_roles.analysis.external.scores:analyse_table",
}
__all__ = [*_PUBLIC]

_auto.register()


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562) and keep it."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = _resolve_name(_PUBLIC[name])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
