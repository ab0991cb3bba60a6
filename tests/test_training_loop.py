"""The pieces of the loop: schedule, data order, engine, checkpoints, progress."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder_roles.data.prompts import Prompt
from encoder_roles.provenance import sha256_of
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import accumulation
from encoder_roles.training import checkpoints as checkpoints_module
from encoder_roles.training.batches import Batches, PicturePrompts, group_by_length
from encoder_roles.training.checkpoints import Checkpoints, damage, run_folder
from encoder_roles.training.distributed import ProcessRank
from encoder_roles.training.engine import Part, TorchEngine
from encoder_roles.training.loop import TERMINATED, Saving, Schedule, compute_gradient, train
from encoder_roles.training.progress import Progress, duration


def picture(number: int, questions: int = 5) -> PicturePrompts:
    prompts = tuple(Prompt(((1,),), (2, number, q), (-100, -100, q)) for q in range(questions + 1))
    return PicturePrompts((f"{number}.png",), prompts[:1], prompts[1:])


def batches(samples=25, batch=4, questions=2, seed=0, stage="tune", pictures=10) -> Batches:
    return Batches(
        [picture(n) for n in range(pictures)],
        samples=samples,
        batch_pictures=batch,
        questions=questions,
        seed=seed,
        stage=stage,
    )


@given(samples=st.integers(1, 60), batch=st.integers(1, 12), pictures=st.integers(1, 15))
def test_every_epoch_shows_every_picture_once_and_the_number_of_samples_is_kept(samples, batch, pictures):
    result = batches(samples, batch, pictures=pictures)
    shown = [sample.pictures[0] for step in range(len(result)) for sample in result[step]]
    assert len(shown) == samples
    for start in range(0, samples - pictures + 1, pictures):
        assert len(set(shown[start : start + pictures])) == pictures


def test_a_batch_depends_on_seed_and_step_alone_not_on_the_steps_before():
    forward, again = batches(), batches()
    in_order = [forward[step] for step in range(len(forward))]
    assert [again[step] for step in reversed(range(len(again)))] == in_order[::-1]
    assert batches(seed=1)[0] != in_order[0] != batches(stage="align")[0]


def test_a_sample_has_one_caption_and_as_many_questions_as_asked_for():
    result = batches(samples=10, questions=3)
    for step in range(len(result)):
        for sample in result[step]:
            assert len(sample.questions) == 4
            assert sample.questions[0].body[2] == 0
            assert len(set(sample.questions)) == 4
    assert len(batches(questions=50)[0][0].questions) == 6


@given(steps=st.integers(1, 300), warmup=st.floats(0, 1))
def test_the_schedule_stays_between_zero_and_one_rises_then_falls(steps, warmup):
    scales = [Schedule(steps, warmup).scale(step) for step in range(steps)]
    peak = scales.index(max(scales))
    assert all(0 <= scale <= 1 for scale in scales)
    assert scales[: peak + 1] == sorted(scales[: peak + 1])
    assert scales[peak:] == sorted(scales[peak:], reverse=True)
    assert scales[0] > 0


@dataclass
class Points:
    """A micro batch of them."""

    learnt: torch.Tensor
    size: float


class Line(torch.nn.Module):
    """Fits a line; a model and its task in one."""

    title = "line"

    def __init__(self, steps=10, broken_at=None, accumulation=1, size=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
        self.noise = 0.5
        self.steps, self.broken_at, self.accumulation, self.size = steps, broken_at, accumulation, size

    def micro_batches(self, step):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return [Points(part, self.size_of(step)) for part in x.chunk(self.accumulation)]

    def size_of(self, step):
        return float("nan") if step == self.broken_at else self.size

    def forward(self, points):
        x = points.learnt
        noise = torch.nn.functional.dropout(torch.ones(2), self.noise)  # draws from the global random state
        return (self.second(self.first(x) * noise) - x.sum(-1, keepdim=True)).square().sum() * points.size

    def describe(self, step):
        return f"numbers of step {step}"

    def engine(self, rates=(0.1, 0.01)):
        parts = {"first": Part(self.first, rates[0]), "second": Part(self.second, rates[1])}
        return TorchEngine(self, parts, weight_decay=0.0, clip_norm=1.0)

    def train(self, checkpoints, every=3, minutes=None):
        saving = Saving(checkpoints, None if minutes else every, minutes)
        engine = self.engine()
        _, log = checkpoints.load(engine)
        return train(engine, self, Schedule(self.steps, 0.1), saving, 0.1, log)

    def weights(self):
        return {**self.first.state_dict(prefix="1"), **self.second.state_dict(prefix="2")}


def test_a_run_broken_off_by_an_error_goes_on_with_equal_weights_and_random_state(tmp_path):
    whole = Line()
    log = whole.train(Checkpoints(tmp_path / "whole"))
    broken = Line(broken_at=8)
    with pytest.raises(StudyError, match="loss is nan at step 8, batch: numbers of step 8"):
        broken.train(Checkpoints(tmp_path / "broken"))
    resumed = Line()
    torch.manual_seed(99)
    assert [row["loss"] for row in resumed.train(Checkpoints(tmp_path / "broken"))] == [
        row["loss"] for row in log
    ]
    assert all(resumed.weights()[name].equal(value) for name, value in whole.weights().items())


def test_only_the_last_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path, capsys):
    Line(steps=11).train(Checkpoints(tmp_path))
    assert [folder.name for folder in sorted(tmp_path.iterdir())] == ["step000000009", "step000000011"]
    for name, change in (
        ("state-00000.safetensors", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]),
        ("log.json", lambda b: b[:-3]),
    ):
        file = tmp_path / "step000000011" / name
        whole = file.read_bytes()
        file.write_bytes(change(whole))
        assert name in damage(file.parent)
        file.write_bytes(whole)
    assert damage(tmp_path / "step000000011") is None
    (tmp_path / "step000000011/sha256.json").write_text("{}")
    folder, log = Checkpoints(tmp_path).load(Line().engine())
    assert (folder, len(log)) == (tmp_path / "step000000009", 9)
    assert "step000000011 is damaged" in capsys.readouterr().err
    assert not (tmp_path / "step000000011").exists()


class ThreadEngine:
    """An engine's saving, with a thread for every process."""

    def __init__(self, rank, values, barrier):
        self.process, self.values, self.barrier = ProcessRank(rank, len(values)), values, barrier

    def gather(self, value):
        self.values[self.process.rank] = value
        self.barrier.wait(timeout=20)
        values = list(self.values)
        self.barrier.wait(timeout=20)
        return values

    def snapshot(self, copy):
        return {str(self.process.rank): torch.full((3,), self.process.rank)}


def test_each_process_hashes_the_file_that_it_wrote(tmp_path, monkeypatch):
    hashed = {}

    def hash_and_note(path):
        hashed[path.name] = threading.current_thread().name
        return sha256_of(path)

    monkeypatch.setattr(checkpoints_module, "sha256_of", hash_and_note)
    values, barrier = [None] * 3, threading.Barrier(3)
    engines = [ThreadEngine(rank, values, barrier) for rank in range(3)]
    saves = [
        threading.Thread(target=Checkpoints(tmp_path).save, args=(engine, [{}]), name=str(rank))
        for rank, engine in enumerate(engines)
    ]
    for save in saves:
        save.start()
    for save in saves:
        save.join()
    files = {f"state-{rank:05d}.safetensors": f"checkpoint-{rank}_0" for rank in range(3)}
    assert hashed == files | {"log.json": "0"}
    assert damage(tmp_path / "step000000001") is None


def test_training_goes_on_while_a_checkpoint_is_written_and_does_not_change_it(tmp_path, monkeypatch):
    """The file of step 3 is held back until step 6 has begun, and is that of a run that waited."""
    written, complete = threading.Event(), []
    write = checkpoints_module._write

    def write_late(tensors, file):
        assert file.parent.name != ".step000000003.part" or written.wait(20)
        return write(tensors, file)

    class Watched(Line):
        def micro_batches(self, step):
            if step == 5:
                complete.extend((tmp_path / "late").glob("step*"))
                written.set()
            return super().micro_batches(step)

    monkeypatch.setattr(checkpoints_module, "KEPT_CHECKPOINTS", 9)
    Line().train(Checkpoints(tmp_path / "waited"))
    monkeypatch.setattr(checkpoints_module, "_write", write_late)
    Watched().train(Checkpoints(tmp_path / "late"))
    assert complete == []
    for step in (3, 6, 9, 10):
        file = f"step{step:09d}/state-00000.safetensors"
        assert (tmp_path / "late" / file).read_bytes() == (tmp_path / "waited" / file).read_bytes()


@pytest.mark.parametrize("name", ["state-00000.safetensors", "log.json", "sha256.json"])
@pytest.mark.parametrize("flip", [True, False])
def test_a_checkpoint_a_byte_short_or_with_one_flipped_is_passed_over_and_changes_nothing(
    tmp_path, capsys, name, flip
):
    whole = Line()
    whole.train(Checkpoints(tmp_path / "whole"))
    with pytest.raises(StudyError):
        Line(broken_at=8).train(Checkpoints(tmp_path / "broken"))
    file = tmp_path / "broken/step000000006" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= flip
    file.write_bytes(content if flip else content[:-1])
    if name == "sha256.json" and not flip:
        file.write_bytes(content[:-3])  # the last byte is a newline: without it the file is still whole
    resumed = Line()
    resumed.train(Checkpoints(tmp_path / "broken"))
    assert "step000000006 is damaged" in capsys.readouterr().err
    assert all(resumed.weights()[key].equal(value) for key, value in whole.weights().items())


def test_micro_batches_add_up_to_the_whole_batch():
    whole, parts = Line(), Line(accumulation=4)
    gradients = []
    for task in (whole, parts):
        task.noise = 0.0  # each pass would draw its own
        engine = task.engine()
        compute_gradient(engine, task, 0)
        gradients.append(torch.cat([p.grad.flatten() for p in engine.named.values()]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)


def test_checkpoints_come_by_steps_or_by_minutes(tmp_path):
    Line().train(Checkpoints(tmp_path / "steps"), every=4)
    assert sorted(f.name for f in (tmp_path / "steps").iterdir()) == ["step000000008", "step000000010"]
    Line().train(Checkpoints(tmp_path / "minutes"), every=10**6, minutes=1e-9)
    assert sorted(f.name for f in (tmp_path / "minutes").iterdir()) == ["step000000009", "step000000010"]


class Signalled(Line):
    """Its own process gets signals during step 4."""

    def __init__(self, *signals):
        super().__init__()
        self.signals = signals

    def micro_batches(self, step):
        for number in self.signals if step == 4 else ():
            os.kill(os.getpid(), number)
        return super().micro_batches(step)


@pytest.mark.parametrize(
    ("number", "end"),
    [(signal.SIGTERM, SystemExit), (signal.SIGUSR1, SystemExit), (signal.SIGINT, KeyboardInterrupt)],
)
def test_after_a_signal_one_more_step_is_done_and_none_will_be_repeated(tmp_path, number, end):
    before = signal.getsignal(number)
    with pytest.raises(end) as error:
        Signalled(number).train(Checkpoints(tmp_path), every=100)
    assert end is KeyboardInterrupt or error.value.code == TERMINATED
    assert [folder.name for folder in tmp_path.iterdir()] == ["step000000006"]
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Signalled(signal.SIGINT, signal.SIGINT).train(Checkpoints(tmp_path), every=100)
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_a_job_was_started_to_ignore_stops_nothing(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Signalled(signal.SIGINT).train(Checkpoints(tmp_path), every=100)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [folder.name for folder in tmp_path.iterdir()] == ["step000000010"]


def test_what_a_dead_run_left_half_written_is_removed(tmp_path):
    Line().train(Checkpoints(tmp_path))
    (tmp_path / ".step000000012.part").mkdir()
    assert Checkpoints(tmp_path).load(Line().engine())[0] == tmp_path / "step000000010"
    assert not list(tmp_path.glob(".step*"))


@given(samples=st.integers(1, 40), batch=st.integers(1, 12), parts=st.integers(1, 5))
def test_shares_of_a_batch_are_the_batch_whatever_their_number(samples, batch, parts):
    result = batches(samples, batch)
    for step in range(len(result)):
        shares = [result.share(step, part, parts) for part in range(parts)]
        assert [sample for share in shares for sample in share] == result[step]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_length_grouping_keeps_every_picture_and_puts_like_lengths_together():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 1000, 2003)
    order = group_by_length(random.permutation(2003), lengths, 8, random)
    assert sorted(order) == list(range(2003))
    spread = np.ptp(lengths[order[:2000]].reshape(-1, 8), axis=1).mean()
    assert spread < 60  # of a thousand; without grouping it is near 800
    assert abs(np.corrcoef(np.arange(2000), lengths[order[:2000]])[0, 1]) < 0.2  # batches are shuffled


def test_a_batch_that_no_division_fits_is_named():
    assert accumulation(16, 2, 4) == 2
    assert accumulation(16, None, 4) == 1
    with pytest.raises(StudyError, match="batch_pictures: 16 is not a multiple of 12, which 4 processes"):
        accumulation(16, 3, 4)


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path):
    Line().train(Checkpoints(tmp_path))
    model = torch.nn.Linear(3, 2)
    other = TorchEngine(model, {"first": Part(model, 0.1)}, 0.0, 1.0)
    with pytest.raises(StudyError, match="other parameters"):
        Checkpoints(tmp_path).load(other)


def test_the_key_of_a_run_changes_with_its_settings_and_with_its_inputs(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.json").write_text("1")
    first = run_folder(tmp_path, {"rate": 1}, [tmp_path / "in"])
    assert run_folder(tmp_path, {"rate": 1}, [tmp_path / "in"]) == first
    assert run_folder(tmp_path, {"rate": 2}, [tmp_path / "in"]) != first
    (tmp_path / "in/a.json").write_text("12")
    assert run_folder(tmp_path, {"rate": 1}, [tmp_path / "in"]) != first


def test_each_part_moves_with_its_own_learning_rate():
    task = Line()
    before = {name: value.clone() for name, value in task.weights().items()}
    engine = task.engine(rates=(1e-2, 1e-4))
    compute_gradient(engine, task, 0)
    engine.step(scale=0.5)
    moved = {name: (value - before[name]).abs().max().item() for name, value in task.weights().items()}
    assert moved["1bias"] == pytest.approx(5e-3, rel=1e-3)
    assert moved["2bias"] == pytest.approx(5e-5, rel=1e-2)


@settings(max_examples=20)
@given(st.floats(1e-3, 1e3))
def test_clipping_bounds_the_gradient_by_its_norm_over_all_parts(size):
    task = Line(size=size)
    engine = task.engine()
    compute_gradient(engine, task, 0)
    gradients = [p.grad.clone() for p in engine.named.values()]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert engine.step(1.0) == pytest.approx(norm.item(), rel=1e-4)
    moments = [engine.optimizer.state[p]["exp_avg"] for p in engine.named.values()]
    clipped = torch.cat([m.flatten() for m in moments]).norm() / (1 - 0.9)
    assert clipped.item() == pytest.approx(min(norm.item(), 1.0), rel=1e-3)


def test_progress_off_a_terminal_is_plain_lines_and_says_when_it_ends():
    stream = io.StringIO()
    progress = Progress("tune", 100, stream=stream)
    for done in range(1, 101):
        progress.update(done, "loss 1.000")
    assert stream.getvalue() == "tune: 100/100 loss 1.000  0:00 gone, 0:00 left\n"
    assert (duration(59.6), duration(3725)) == ("1:00", "1:02:05")
    assert json.dumps(stream.getvalue()).count("\\r") == 0
