"""What Kafka's authorizer has to allow, and the command that allows it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from penstock.core.errors import ConfigurationError


class Operation(StrEnum):
    """Kafka's operations, by the names that kafka-acls.sh takes."""

    READ = "Read"
    WRITE = "Write"
    DESCRIBE_CONFIGS = "DescribeConfigs"

    @property
    def bit(self) -> int:
        """Its bit in the operations that Metadata tells of a topic."""
        return 1 << {Operation.READ: 3, Operation.WRITE: 4, Operation.DESCRIBE_CONFIGS: 10}[self]


class Resource(StrEnum):
    """Kinds of resources, by the options of kafka-acls.sh."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


class Right(NamedTuple):
    """An operation on a resource; ``prefix``: on all whose names begin with the name.

    `Read` and `Write` include `Describe`, which the look-up of leader epochs, coordinators and offsets needs.
    """

    operation: Operation
    resource: Resource
    name: str
    prefix: bool = False

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}{'*' if self.prefix else ''}"

    @property
    def command(self) -> str:
        """The command that adds the ACL, but for the address and the principal."""
        pattern = " --resource-pattern-type prefixed" if self.prefix else ""
        return (
            "kafka-acls.sh --bootstrap-server BROKERS --add --allow-principal User:PRINCIPAL"
            f" --operation {self.operation} --{self.resource} {self.name}{pattern}"
        )


class RightsMissing(ConfigurationError):
    """Kafka's authorizer does not allow what is needed; the text holds the commands that do."""

    def __init__(self, rights: Sequence[Right]) -> None:
        said = "; ".join(f"{each}: {each.command}" for each in rights)
        super().__init__(f"Kafka does not allow {said}")
        self.rights = rights
