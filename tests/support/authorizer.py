"""A broker with an authorizer: who comes over the listener LOGIN may do only what it was granted."""

from pathlib import Path
from typing import Any

from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.server import free_port
from penstock.kafka.right import Operation, Resource, Right
from tests.support.stack import admin_client

USER = "penstock"
PASSWORD = "pass-canary-77ac"
MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
OPERATIONS = {Operation.READ: 3, Operation.WRITE: 4, Operation.DESCRIBE_CONFIGS: 10}
RESOURCES = {Resource.TOPIC: 2, Resource.GROUP: 3, Resource.TRANSACTIONAL_ID: 5}
LITERAL, PREFIXED = 3, 4
ALLOW = 3


class AuthorizingKafka(EmbeddedKafka):
    """Whoever comes without a name is a super user; `penstock` may do nothing at first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.login_port = free_port()
        own = {"PLAINTEXT": self.port, "LOGIN": self.login_port}
        advertised = ",".join(f"{name}://127.0.0.1:{port}" for name, port in own.items())
        self.settings = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listeners": f"{advertised},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": advertised,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT",
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": f'{MODULE} required user_{USER}="{PASSWORD}";',
        }

    @property
    def login(self) -> dict[str, Any]:
        """The service's settings for its listener, without the prefix."""
        return {
            "kafka_bootstrap_servers": f"127.0.0.1:{self.login_port}",
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_sasl_mechanism": "PLAIN",
            "kafka_sasl_username": USER,
            "kafka_sasl_password": PASSWORD,
        }

    async def grant(self, right: Right) -> None:
        """Add the ACL."""
        async with admin_client(self) as admin:
            answer = await admin._send_request(CreateAclsRequest(*acl(right)))  # noqa: SLF001 - no public way
            assert not any(each[0] for each in answer.creation_responses), answer

    async def revoke(self, right: Right) -> None:
        """Remove the ACL."""
        async with admin_client(self) as admin:
            answer = await admin._send_request(DeleteAclsRequest(*acl(right)))  # noqa: SLF001 - no public way
            assert [len(each[2]) for each in answer.filter_responses] == [1], answer


def acl(right: Right) -> tuple[int, str, int, str, str, int, int]:
    """A right of the service's user, as the protocol has it."""
    pattern = PREFIXED if right.prefix else LITERAL
    return RESOURCES[right.resource], right.name, pattern, f"User:{USER}", "*", OPERATIONS[right.operation], ALLOW
