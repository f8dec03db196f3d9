"""An index is backed up to object storage that fails now and then, and restored from it."""

from tests.index.samples import answers, index, model  # noqa: F401 (fixtures)
from tests.store_faults import Fault
from xhash_ray.index import copying
from xhash_ray.options import IndexCopy


def test_to_object_storage_and_back(index, tmp_path, store):  # noqa: F811
    faults = [Fault("slowdown", on="PUT", times=2), Fault("reset-halfway", on="GET", key="segments", times=2)]
    store.set(*faults)
    copying.copy(IndexCopy(index=index, out="s3://xhash/backups/one"))
    told = copying.copy(IndexCopy(index="s3://xhash/backups/one", out=str(tmp_path / "restored")))
    assert (told["rows"], told["there"]) == (40, 0)
    assert store.injected.total() == 4
    assert answers(str(tmp_path / "restored")) == answers(index)
