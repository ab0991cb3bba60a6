"""Anybody's checkpoint: a model that lmms-eval loads answers a study's requests, with its encoders masked.

The prompts, pictures and limits are those of the requests, so that its answers are scored like a study's.
Decoding is greedy. A task's stop strings are not passed, as in a study.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.metadata
import inspect
import pkgutil
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from typing import Any

import encoder_roles.encoders._transformers  # noqa: F401  # must come before lmms-eval

# isort: split

from lmms_eval.api.instance import Instance, unwrap_generation_output
from lmms_eval.models import get_model, list_available_models
from lmms_eval.utils import simple_parse_args_string
from loguru import logger
from PIL import Image
from torch import nn

from encoder_roles.data.llava import distinct_pictures
from encoder_roles.encoders.compute import choose_device
from encoder_roles.evaluation.requests import Request
from encoder_roles.models.module_masks import Calibrations, Calibrator, React, hooked
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import MaskedCheckpoint

SPLIT = "test"
VIDEO_READER = "decord"  # many models of lmms-eval import it; no question here has a video
PICTURE_FILES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
CALIBRATION_PROMPT = "Describe the picture."


class LmmsCheckpoint:
    """A model of lmms-eval.

    Attributes:
        settings: how it is loaded, and where its encoders are.
        model: its torch model, in which the paths of encoders begin.
    """

    def __init__(self, settings: MaskedCheckpoint) -> None:
        """Load it. Raises StudyError if lmms-eval has no such model, or it cannot be loaded."""
        self.settings = settings
        self._lmms = load_lmms(settings)
        self.model = torch_model(self._lmms, settings.model)

    def answer(self, requests: Mapping[str, Sequence[Request]], folder: Path, react: React) -> list[str]:
        """The answers to all requests, benchmark by benchmark, while `react` sees its encoders' outputs.

        The first question with a picture is asked twice: at first alone and for one token, so that a fault of
        a module's path takes seconds.

        Args:
            requests: benchmark -> requests.
            folder: the folder of the requests' pictures.
            react: a ModuleMask or a Calibrator.

        Raises:
            StudyError: as `hooked`; or no question has a picture, or the model logged an error.
        """
        shown = [(name, row) for name, rows in requests.items() for row in rows if row.images]
        if not shown:
            raise StudyError("no question has a picture: masks would change nothing")
        with hooked(self.model, self.settings.encoders, react):
            self._generate(shown[0][0], [shown[0][1]], folder, limit=1)
        with hooked(self.model, self.settings.encoders, react):
            return [text for name, rows in requests.items() for text in self._generate(name, rows, folder)]

    def calibrate(self, pictures: Sequence[Path], keep_donors: bool) -> Calibrations:
        """What its encoders return on some pictures; see `Calibrator`."""
        reader = Calibrator(self.settings.channels, keep_donors)
        with hooked(self.model, self.settings.encoders, reader):
            rows = [
                Request(str(i), "", CALIBRATION_PROMPT, (str(path.resolve()),), 1)
                for i, path in enumerate(pictures)
            ]
            self._generate("calibration", rows, Path())
        return reader.calibrations

    def _generate(
        self, benchmark: str, rows: Sequence[Request], folder: Path, limit: int | None = None
    ) -> list[str]:
        """The answers to one benchmark's requests."""
        self._lmms.task_dict[benchmark] = {SPLIT: [vars(row) for row in rows]}
        instances = [self._instance(benchmark, row, place, folder, limit) for place, row in enumerate(rows)]
        with no_logged_errors(self.settings.model):
            outputs = self._lmms.generate_until(instances)
        return [str(unwrap_generation_output(output)[0]).strip() for output in outputs]

    def _instance(
        self, benchmark: str, request: Request, place: int, folder: Path, limit: int | None
    ) -> Instance:
        """One request as lmms-eval gives it to its simple or its chat models."""

        def pictures(row: Mapping[str, Any]) -> list[Image.Image]:
            return [open_picture(folder / name) for name in row["images"]]

        def messages(row: Mapping[str, Any]) -> list[dict[str, Any]]:
            content: list[dict[str, Any]] = [{"type": "image", "url": picture} for picture in pictures(row)]
            return [{"role": "user", "content": [*content, {"type": "text", "text": row["prompt"]}]}]

        # models change their options: each request gets its own
        options = {"max_new_tokens": limit or request.max_new_tokens, "temperature": 0, "do_sample": False}
        place_of = (place, benchmark, SPLIT)
        arguments = (
            (request.prompt, options, pictures, *place_of)
            if self._lmms.is_simple
            else (request.prompt, messages, options, *place_of)
        )
        metadata = {"task": benchmark, "doc_id": place, "repeats": 1}
        return Instance("generate_until", arguments, 0, metadata)


def open_picture(path: Path) -> Image.Image:
    """A picture in memory, in its own mode. Raises StudyError if it is damaged."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()
    except (OSError, SyntaxError, ValueError) as error:
        raise StudyError(f"{path}: damaged picture ({error}); write the requests again") from error


def calibration_pictures(source: Path, count: int) -> list[Path]:
    """The first pictures of LLaVA-format records, or of a folder by name. Raises StudyError if few."""
    if source.is_dir():
        found = sorted(path for path in source.iterdir() if path.suffix.lower() in PICTURE_FILES)[:count]
    elif source.is_file():
        found = [source.parent / name for name in islice(distinct_pictures(source), count)]
    else:
        raise StudyError(f"{source}: no such folder of pictures, or file of records; correct calibration")
    if len(found) < count:
        raise StudyError(f"{source}: {len(found)} pictures, but calibration_pictures is {count}")
    return found


def load_lmms(settings: MaskedCheckpoint) -> Any:
    """A model of lmms-eval, loaded. Raises StudyError if that is impossible."""
    kind = find_class(settings.model)
    given = settings.model_args
    arguments = simple_parse_args_string(given) if isinstance(given, str) else dict(given)
    accepted = inspect.signature(kind).parameters
    device = str(choose_device())
    defaults = {"batch_size": settings.batch_size, "device": device, "device_map": device}
    arguments = {key: value for key, value in defaults.items() if key in accepted} | arguments
    try:
        return kind(**arguments)
    except StudyError:
        raise
    except NameError as error:  # lmms-eval logs a missing package of a model and goes on
        raise StudyError(
            f"model {settings.model}: {error}: the package that it is in is not installed"
        ) from error
    except (OSError, TypeError, ValueError, AssertionError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StudyError(
            f"model {settings.model}: cannot be loaded with {settings.model_args}: {reason}"
        ) from error


def find_class(name: str) -> Any:
    """The class of a model, by its name in lmms-eval or as module:Class. Raises StudyError without one."""
    try:
        if ":" in name:
            with stand_in_video_reader():
                return pkgutil.resolve_name(name)
        known = list_available_models(include_aliases=True)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            question = f"did you mean {' or '.join(near)}? " if near else ""
            version = importlib.metadata.version("lmms_eval")
            raise StudyError(
                f"model {name!r}: lmms-eval {version} has none of this name; {question}"
                "a class of your own is module:Class"
            )
        logger.disable("lmms_eval")  # its errors are also raised
        with stand_in_video_reader():
            return get_model(name)
    except ImportError as error:
        raise StudyError(f"model {name}: {error}; install what it needs") from error
    except AttributeError as error:
        raise StudyError(f"model {name}: {error}; name it as module:Class") from error


@contextlib.contextmanager
def stand_in_video_reader() -> Iterator[None]:
    """Within the block, models can be imported that import a video reader which is not installed."""
    if importlib.util.find_spec(VIDEO_READER) is not None:
        yield
        return

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    module = types.ModuleType(VIDEO_READER)
    module.__spec__ = ModuleSpec(VIDEO_READER, None)
    module.__dict__["__getattr__"] = attribute
    sys.modules[VIDEO_READER] = module
    try:
        yield
    finally:
        del sys.modules[VIDEO_READER]


def torch_model(lmms: Any, name: str) -> nn.Module:
    """The torch model inside a model of lmms-eval. Raises StudyError if it has none, or several."""
    for attribute in ("model", "_model"):
        if isinstance(model := getattr(lmms, attribute, None), nn.Module):
            return model
    held = {key: value for key, value in vars(lmms).items() if isinstance(value, nn.Module)}
    if len(held) != 1:
        what = f"several torch models ({', '.join(held)})" if held else "no torch model in this process"
        raise StudyError(f"model {name}: has {what}; masks need the one that holds its encoders")
    return next(iter(held.values()))


@contextlib.contextmanager
def no_logged_errors(model: str) -> Iterator[None]:
    """Raise StudyError after the block if an error was logged in it.

    Several models of lmms-eval log any error of an answer, and give an empty answer.
    """
    errors: list[str] = []
    logger.enable("lmms_eval")
    sink = logger.add(lambda message: errors.append(message.record["message"]), level="ERROR")
    try:
        yield
    finally:
        logger.remove(sink)
        logger.disable("lmms_eval")
    if errors:
        first = errors[0].strip().splitlines()[0]
        raise StudyError(f"model {model}: logged {len(errors)} errors, and answered nothing: {first:.300}")
