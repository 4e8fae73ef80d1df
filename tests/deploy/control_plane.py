"""A real control plane on loopback: etcd, the API server with its admission, controllers, scheduler; simulated nodes.

A simulated node says that a pod runs, whatever its image, probes and Secrets; NetworkPolicies are stored and not
enforced. What a pod does inside is shown with the built image and with processes.
"""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.embedded.server import free_port
from tests.deploy.command import Failed, attempt, run
from tests.deploy.tools import folder

START_SECONDS = 120.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.25
NODES = 3


class ControlPlane:
    """Its programs, and helm and kubectl against it.

    Args:
        place: takes data, logs and the kubeconfig.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.bin = folder() / "bin"
        self.kubeconfig = place / "kubeconfig"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start it, and wait until nodes are ready.

        Raises:
            Failed: a part of it ended, or it is not ready in time.
        """
        self.place.mkdir(parents=True, exist_ok=True)
        etcd, peers, port, controllers, scheduler = (free_port() for _ in range(5))
        run("openssl", "genrsa", "-out", "sa.key", "2048", folder=self.place)
        token = secrets.token_hex()
        (self.place / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        self.write_kubeconfig(port, token)
        self.launch(
            "etcd",
            f"--data-dir=etcd --listen-client-urls=http://127.0.0.1:{etcd} --unsafe-no-fsync "
            f"--advertise-client-urls=http://127.0.0.1:{etcd} --listen-peer-urls=http://127.0.0.1:{peers} "
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peers} --initial-cluster=default=http://127.0.0.1:{peers}",
        )
        self.launch(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd} --bind-address=127.0.0.1 --advertise-address=127.0.0.1 "
            f"--secure-port={port} --cert-dir=certs --service-account-key-file=sa.key "
            "--service-account-signing-key-file=sa.key --service-cluster-ip-range=10.0.0.0/24 "
            "--service-account-issuer=https://kubernetes.default.svc --authorization-mode=Node,RBAC "
            "--token-auth-file=tokens.csv",
        )
        self.wait_for(lambda: attempt(*self.kubectl_command("get", "--raw", "/readyz")).returncode == 0)
        self.launch(
            "kube-controller-manager",
            "--kubeconfig=kubeconfig --service-account-private-key-file=sa.key --root-ca-file=certs/apiserver.crt "
            "--use-service-account-credentials --leader-elect=false --bind-address=127.0.0.1 "
            f"--secure-port={controllers} --cert-dir=certs-controllers",
        )
        self.launch(
            "kube-scheduler",
            "--kubeconfig=kubeconfig --leader-elect=false --bind-address=127.0.0.1 "
            f"--secure-port={scheduler} --cert-dir=certs-scheduler",
        )
        stages = folder() / "kwok-stages.yaml"
        self.launch(
            "kwok", f"--kubeconfig=kubeconfig --manage-all-nodes --node-lease-duration-seconds=40 --config={stages}"
        )
        self.kubectl("apply", "-f", "-", given=json.dumps(nodes()))
        self.kubectl("apply", "--server-side", "-f", folder() / "crds")
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")

    def launch(self, name: str, options: str) -> None:
        """Start one program."""
        with (self.place / f"{name}.log").open("ab") as log:
            command = [str(self.bin / name), *options.split()]
            process = subprocess.Popen(command, cwd=self.place, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)

    def wait_for(self, ready: Any) -> None:
        """Wait until it is so.

        Raises:
            Failed: a program ended, or it took too long; the message is the end of each log.
        """
        ends_at = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > ends_at or any(each.poll() is not None for each in self.processes):
                logs = sorted(self.place.glob("*.log"))
                raise Failed("\n".join(f"{each.name}: {each.read_text()[-2000:]}" for each in logs))
            time.sleep(POLL_SECONDS)

    def write_kubeconfig(self, port: int, token: str) -> None:
        """Who it is and where."""
        cluster = {
            "server": f"https://127.0.0.1:{port}",
            "certificate-authority": str(self.place / "certs" / "apiserver.crt"),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
            "current-context": "local",
        }
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(config))

    def stop(self) -> None:
        """End its programs, the last one started first."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def environment(self) -> dict[str, str]:
        """What helm and kubectl need, and nothing of the user's own clusters."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        home = str(self.place / "helm")
        return {
            "PATH": path,
            "KUBECONFIG": str(self.kubeconfig),
            "HELM_CONFIG_HOME": home,
            "HELM_CACHE_HOME": home,
            "HELM_DATA_HOME": home,
        }

    def kubectl_command(self, *arguments: object) -> list[object]:
        """The command line."""
        return [self.bin / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]

    def kubectl(self, *arguments: object, given: str | None = None) -> str:
        """Run kubectl; returns what it says.

        Raises:
            Failed: it refused.
        """
        return run(*self.kubectl_command(*arguments), given=given)

    def get(self, *arguments: object) -> Any:
        """An object or a list of them, as JSON."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def helm(self, *arguments: object) -> str:
        """Run helm; returns what it says.

        Raises:
            Failed: it refused.
        """
        return run(self.bin / "helm", *arguments, environment=self.environment())


def nodes() -> dict[str, Any]:
    """Nodes in zones of their own, with room for the chart's defaults."""
    room = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    items = []
    for number in range(NODES):
        labels = {
            "kubernetes.io/hostname": f"node-{number}",
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/zone": f"zone-{number}",
        }
        items.append(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"node-{number}", "labels": labels},
                "status": {"capacity": room, "allocatable": room},
            }
        )
    return {"apiVersion": "v1", "kind": "List", "items": items}


@contextmanager
def running(place: Path) -> Iterator[ControlPlane]:
    """A control plane that ends with the block."""
    plane = ControlPlane(place)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
