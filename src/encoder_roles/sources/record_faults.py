"""What is wrong with a file of records: one list, whose records stop the study or are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoder_roles.provenance import sha256_of, write_rows

COLUMNS = ("record", "picture", "reason", "detail")
COUNT_COLUMNS = ("data", "reason", "records", "file_sha256")
KEPT = "kept"  # in the column `reason` of the counts
WRONG = "wrong record"  # the reason of what is no record in LLaVA's format


@dataclass(frozen=True)
class RecordFault:
    """Why a record, or all records about a picture, cannot be learnt from.

    Attributes:
        record: the record's place in the file, from 1; of a picture's records, the first.
        reason: in a word or two, for counting.
        detail: in a sentence, for the list.
        picture: the picture that cannot be used; None if the record itself is at fault.
    """

    record: int
    reason: str
    detail: str
    picture: Path | None = None

    def __str__(self) -> str:
        return f"of record {self.record}: {self.picture}: {self.detail}" if self.picture else self.detail


def write_list(file: Path, faults: Sequence[RecordFault]) -> None:
    """Write the faults as CSV, in the order of the records."""
    rows = ((each.record, each.picture or "", each.reason, each.detail) for each in faults)
    write_rows(file, COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))


def in_words(counts: Mapping[str, int]) -> str:
    """Reasons with their numbers, the most frequent first."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(counts).most_common())


def write_counts(file: Path, name: str, records: Path, left_out: Mapping[str, int], faults: Path) -> None:
    """Write how many records are kept, and how many are left out for each reason.

    Args:
        file: the CSV; `file_sha256` is the hash of `records` for those kept, of `faults` for the others.
        name: align, tune or probe.
        records: the file of the kept records.
        left_out: reason -> records.
        faults: the list of faults.
    """
    with records.open("rb") as lines:
        kept = sum(1 for _ in lines)
    rows = [(name, KEPT, kept, sha256_of(records))]
    rows += [(name, reason, count, sha256_of(faults)) for reason, count in sorted(left_out.items())]
    write_rows(file, COUNT_COLUMNS, (dict(zip(COUNT_COLUMNS, row, strict=True)) for row in rows))
