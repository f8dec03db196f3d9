"""What verification finds: lost pairs, pairs from nowhere, pairs twice, files that are not what was written."""

import pyarrow as pa
import pytest

from xhash_ray.pipeline import identities, verifying
from xhash_ray.pipeline.verifying import Asked, Findings, Ids
from xhash_ray.storage import tables


def ids(name, *files):
    return Ids(name, [f"{name}-{n}" for n in range(len(files))], [identities.digests(each) for each in files])


def joined(before, after, rejects=None):
    findings = Findings()
    verifying.unique(after, findings)
    verifying.join(before, after, rejects, findings)
    return findings.problems


def test_pairs_and_rejects_that_add_up_are_no_finding():
    assert joined(ids("corpus", ["a", "b"], ["", "c"]), ids("features", ["c", "a"]), ids("rejects", ["b", ""])) == []


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (ids("features", ["a", "b"], ["c"]), "1 ids are missing in features, the first in corpus-1, row 1"),
        (ids("features", ["a", "b"], ["c", "x"]), "1 ids are not in corpus, the first in features-1, row 1"),
        (
            ids("features", ["a", "b"], ["c", "a", "d"]),
            "1 ids are more than once in features, the first in features-1, row 1",
        ),
        (
            ids("features", ["a", "b"], ["c", "d", ""]),
            "1 ids are without an id in features, the first in features-1, row 2",
        ),
        (ids("features", ["a", "b"], ["c"]), "3 pairs in features and 0 rejects are 3 rows, corpus has 4"),
    ],
)
def test_each_kind_of_loss_is_named_with_its_place(after, message):
    problems = joined(ids("corpus", ["a", "b"], ["c", "d"]), after)
    assert message in problems


def test_rows_without_an_id_do_not_shift_the_place_of_what_is_missing():
    problems = joined(ids("corpus", ["", "a", "", "b"]), ids("features", ["a"]), ids("rejects", ["", ""]))
    assert "1 ids are missing in features, the first in corpus-0, row 3" in problems


def test_files_are_compared_with_what_was_written(tmp_path):
    place = str(tmp_path / "part.parquet")
    facts = tables.write_table(place, pa.table({"id": ["a#0", "a#1", "b"]}))
    seen = verifying.look(Asked(place, 3, facts.sha256, True))
    assert seen.problem is None
    assert (len(seen.rows), len(seen.pairs)) == (3, 2)
    assert "2 were written" in verifying.look(Asked(place, 2, None)).problem
    content = bytearray((tmp_path / "part.parquet").read_bytes())
    content[5] ^= 1
    (tmp_path / "part.parquet").write_bytes(content)
    assert verifying.look(Asked(place, 3, facts.sha256)).problem is not None
    (tmp_path / "part.parquet").write_bytes(b"PAR1")
    assert "cannot be read" in verifying.look(Asked(place, 3, facts.sha256)).problem
    assert "no such file" in verifying.look(Asked(str(tmp_path / "gone.parquet"), 3, None)).problem
