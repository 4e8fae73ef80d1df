import uuid
from typing import Any

from penstock.core.batch import ProviderBatch
from penstock.core.create import made_by

OLD, NEW = uuid.uuid4(), uuid.uuid4()


def batch(name: str, file_id: str | None = "file-1", **metadata: str) -> ProviderBatch:
    return ProviderBatch(name, "in_progress", None, None, None, None, (), metadata, 0, 0, 0, file_id)


def marked(name: str, create: uuid.UUID, deployment: str = "ours", **fields: Any) -> ProviderBatch:
    return batch(name, penstock_create=create.hex, penstock_deployment=deployment, **fields)


def found(*seen: ProviderBatch, known: frozenset[str] = frozenset()) -> tuple[uuid.UUID, str] | None:
    made = made_by(seen, [OLD, NEW], deployment="ours", file_id="file-1", known=known)
    return made and (made[0], made[1].id)


def test_metadata_tells_which_create_made_a_batch() -> None:
    assert found(batch("b0"), marked("b1", OLD)) == (OLD, "b1")


def test_without_metadata_the_input_file_tells_and_the_last_create_is_meant() -> None:
    assert found(batch("b1")) == (NEW, "b1")
    assert found(batch("b1", "file-2"), batch("b2", None)) is None


def test_what_another_create_another_deployment_or_a_known_batch_made_is_not_taken() -> None:
    assert found(marked("b1", uuid.uuid4())) is None
    assert found(marked("b1", NEW, "theirs")) is None
    assert found(batch("b1"), marked("b2", NEW), known=frozenset({"b1", "b2"})) is None
