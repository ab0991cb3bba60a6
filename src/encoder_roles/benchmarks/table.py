"""The sixteen benchmarks as data: lmms-eval's task for each, its data, its metric and what we do differently.

Nothing here imports lmms-eval: the table is read by every stage, the task code only where prompts are
rendered and answers are scored (`evaluation.harness`). docs/benchmarks.md is written from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from encoder_roles.study.names import BENCHMARKS, GROUPS, StudyError
from encoder_roles.study.sections import HubSource

LMMS_EVAL = "0.7.3"  # another version has other prompts and parsers: it is refused, not warned about
ANSWER_TOKENS = 128  # the most tokens an answer may have, and what is allowed where a task sets no limit

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
WORD = "\nAnswer the question with a single word."
IMAGES = "images"
MME_PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: where its questions come from, and how lmms-eval asks and scores them.

    `file` is the task's own YAML below lmms_eval/tasks. `keep` is a column and its allowed values: rows with
    others are no part of the benchmark. `cluster` names what questions share: the columns that identify it,
    `picture`, or MMBench's `circle` and MMVP's `pair`. `questions` is the number of rows of the public data
    set after `keep`. `suffix` is the text every prompt ends with (empty: the question says itself how to
    answer). `overlay` is where our score leaves lmms-eval's figure, empty if nowhere. `revision` is the data
    set's branch; a study's lock says which commit of it. `images` is the configuration that has the pictures
    where `config` has only the questions.
    """

    name: str
    task: str
    file: str
    metric: str
    source: str
    config: str
    split: str
    questions: int
    cluster: tuple[str, ...] = ("picture",)
    suffix: str = ""
    keep: tuple[str, tuple[str, ...]] | None = None
    overlay: str = ""
    revision: str = "main"
    images: str = ""

    @property
    def hub_sources(self) -> dict[str, HubSource]:
        """Its data sets on the hub, by name in a lock: the questions; the pictures where they are apart."""
        here = HubSource(
            kind="dataset",
            repository=self.source,
            revision=self.revision,
            config=self.config,
            split=self.split,
        )
        found = {f"benchmarks/{self.name}": here}
        if self.images:
            found[f"benchmarks/{self.name}/{IMAGES}"] = here.model_copy(update={"config": self.images})
        return found

    @property
    def group(self) -> str:
        """The group of Cambrian-1 (arXiv 2406.16860) the benchmark belongs to."""
        return next(group for group, names in GROUPS.items() if self.name in names)


TASKS: dict[str, Benchmark] = {
    row.name: row
    for row in (
        Benchmark(
            name="mme",
            task="mme",
            file="mme/mme.yaml",
            metric="mme_perception_score",
            source="lmms-lab-encoder/MME",
            config="",
            split="test",
            questions=2114,
            cluster=("category", "question_id"),
            suffix=SHORT,
            keep=("category", MME_PERCEPTION),
            overlay="perception / (2 x categories present): with all ten it is perception / 20, on 0-100",
        ),
        Benchmark(
            name="mmbench",
            task="mmbench_en_dev_static",
            file="mmbench/mmbench_en_dev_static.yaml",
            metric="gpt_eval_score",
            source="lmms-lab-encoder/MMBench",
            config="en",
            split="dev",
            questions=4329,
            cluster=("circle",),
            suffix="\n" + LETTER,
        ),
        Benchmark(
            name="seed",
            task="seedbench",
            file="seedbench/seedbench.yaml",
            metric="seed_image",
            source="lmms-lab-encoder/SEED-Bench",
            config="",
            split="test",
            questions=14233,
            suffix=LETTER,
            keep=("data_type", ("image",)),
            overlay="questions about one image only (no video)",
        ),
        Benchmark(
            name="gqa",
            task="gqa",
            file="gqa/gqa.yaml",
            metric="exact_match",
            source="lmms-lab-encoder/GQA",
            config="testdev_balanced_instructions",
            split="testdev",
            questions=12578,
            cluster=("imageId",),
            suffix=SHORT,
            images="testdev_balanced_images",
            overlay="images joined to the questions in the data, not by the task's own download",
        ),
        Benchmark(
            name="scienceqa",
            task="scienceqa_img",
            file="scienceqa/scienceqa_img.yaml",
            metric="exact_match",
            source="lmms-lab-encoder/ScienceQA",
            config="ScienceQA-IMG",
            split="test",
            questions=2017,
            suffix=LETTER,
        ),
        Benchmark(
            name="mmmu",
            task="mmmu_val",
            file="mmmu/mmmu_val.yaml",
            metric="mmmu_acc",
            source="lmms-lab-encoder/MMMU",
            config="",
            split="validation",
            questions=900,
            overlay="an unparsable answer is wrong; the task gives it a random option",
        ),
        Benchmark(
            name="mathvista",
            task="mathvista_testmini_format",
            file="mathvista/mathvista_testmini_format.yaml",
            metric="rule_accuracy",  # lmms-eval's own is llm_as_judge_eval
            source="AI4Math/MathVista",
            config="",
            split="testmini",
            questions=1000,
            overlay="the answer is read by rules: no language model as judge, no credit for similarity",
        ),
        Benchmark(
            name="ai2d",
            task="ai2d",
            file="ai2d/ai2d.yaml",
            metric="exact_match",
            source="lmms-lab-encoder/ai2d",
            config="",
            split="test",
            questions=3088,
            suffix=LETTER,
        ),
        Benchmark(
            name="chartqa",
            task="chartqa",
            file="chartqa/chartqa.yaml",
            metric="relaxed_overall",
            source="lmms-lab-encoder/ChartQA",
            config="",
            split="test",
            questions=2500,
            suffix=WORD,
        ),
        Benchmark(
            name="ocrbench",
            task="ocrbench",
            file="ocrbench/ocrbench.yaml",
            metric="ocrbench_accuracy",
            source="echo840/OCRBench",
            config="",
            split="test",
            questions=1000,
            overlay="divided by the number of questions, not by 1000; no running total between models",
        ),
        Benchmark(
            name="textvqa",
            task="textvqa_val",
            file="textvqa/textvqa_val.yaml",
            metric="exact_match",
            source="lmms-lab-encoder/textvqa",
            config="",
            split="validation",
            questions=5000,
            suffix=SHORT,
        ),
        Benchmark(
            name="docvqa",
            task="docvqa_val",
            file="docvqa/docvqa_val.yaml",
            metric="anls",
            source="lmms-lab-encoder/DocVQA",
            config="DocVQA",
            split="validation",
            questions=5349,
            suffix=SHORT,
        ),
        Benchmark(
            name="mmvp",
            task="mmvp",
            file="mmvp/mmvp.yaml",
            metric="mmvp_pair_accuracy",
            source="lmms-lab-eval/MMVP",
            config="",
            split="train",
            questions=300,
            cluster=("pair",),
            suffix=LETTER,
        ),
        Benchmark(
            name="realworldqa",
            task="realworldqa",
            file="realworldqa/realworldqa.yaml",
            metric="exact_match",
            source="lmms-lab-encoder/RealWorldQA",
            config="",
            split="test",
            questions=765,
        ),
        Benchmark(
            name="cvbench2d",
            task="cv_bench_2d",
            file="cv_bench/cv_bench_2d.yaml",
            metric="cv_bench_acc",
            source="nyu-visionx/CV-Bench",
            config="2D",
            split="test",
            questions=1438,
            keep=("type", ("2D",)),
            overlay="mean of the sources' accuracies (ADE20K and COCO), as the benchmark's authors define it",
        ),
        Benchmark(
            name="cvbench3d",
            task="cv_bench_3d",
            file="cv_bench/cv_bench_3d.yaml",
            metric="cv_bench_acc",
            source="nyu-visionx/CV-Bench",
            config="3D",
            split="test",
            questions=1200,
            keep=("type", ("3D",)),
        ),
    )
}
assert tuple(TASKS) == BENCHMARKS


def find_benchmark(name: str) -> Benchmark:
    """The row of a benchmark. Raises StudyError if the name belongs to no group."""
    if name not in TASKS:
        raise StudyError(f"benchmark {name!r} belongs to no group (known: {', '.join(TASKS)})")
    return TASKS[name]


def cluster_of(benchmark: Benchmark, row: Mapping[str, Any], pictures: tuple[str, ...]) -> str:
    """What a question shares with its neighbours, as text: the unit that the bootstrap draws.

    `pictures` are the names of the question's pictures; equal names are equal pictures.
    """
    if benchmark.cluster == ("picture",):
        return "+".join(pictures) or "no picture"
    if benchmark.cluster == ("circle",):  # MMBench: the same question with its options rotated, 1e6 apart
        return str(int(row["index"]) % 1_000_000)
    if benchmark.cluster == ("pair",):  # MMVP: rows 1-2, 3-4, ... ask the same of two pictures
        return str((int(row["Index"]) - 1) // 2)
    return "/".join(str(row[column]) for column in benchmark.cluster)
