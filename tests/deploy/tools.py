"""The programs that judge the deployment, built from Go modules of fixed versions: ``python -m tests.deploy.tools``.

Twenty minutes on two cores the first time, nothing after that: the cache keeps them, with the version beside each.
"""

import json
import shutil
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from penstock.embedded.cache import cache_folder
from tests.deploy.command import Failed, run

KUBERNETES = "1.36.3"
STAGING = (
    "api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap "
    "code-generator component-base component-helpers controller-manager cri-api cri-client cri-streaming "
    "csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator "
    "kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission "
    "sample-apiserver sample-cli-plugin sample-controller streaming"
)
"""The modules that live in Kubernetes' own repository."""
MINOR = KUBERNETES.split(".")[1]
KUBERNETES_FLAGS = " ".join(
    f"-X k8s.io/{package}/version.git{name}={value}"
    for package in ("component-base", "client-go/pkg")
    for name, value in (("Version", f"v{KUBERNETES}"), ("Major", "1"), ("Minor", MINOR))
)
HELM_FLAGS = " ".join(  # unmarked, helm takes the cluster for Kubernetes 1.20
    f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{name}={value}"
    for package in ("lint/rules", "chartutil")
    for name, value in (("Major", "1"), ("Minor", MINOR))
)
REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "deploy.lock"


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module of one version, and the lines that its own go.mod has and another's needs."""

    path: str
    version: str
    replaces: tuple[str, ...] = ()

    def go_mod(self, package: str) -> str:
        """The go.mod of a module that has a package of this one as its tool."""
        lines = [
            f"module {self.path.rpartition('/')[2]}",
            "go 1.26.0",
            f"tool {package}",
            f"require {self.path} {self.version}",
            *(f"replace {each}" for each in self.replaces),
        ]
        return "\n".join(lines) + "\n"


KUBERNETES_MODULE = Module(
    "k8s.io/kubernetes",
    f"v{KUBERNETES}",
    tuple(f"k8s.io/{each} => k8s.io/{each} v0.{KUBERNETES.removeprefix('1.')}" for each in STAGING.split()),
)
KWOK = Module("sigs.k8s.io/kwok", "v0.8.0")
KEDA = Module("github.com/kedacore/keda/v2", "v2.21.0")
PROMETHEUS_OPERATOR = Module("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
CLOUDNATIVE_PG = Module("github.com/cloudnative-pg/cloudnative-pg", "v1.28.0")
EXTERNAL_SECRETS = Module("github.com/external-secrets/external-secrets", "v0.20.4")
DEFINITIONS = (
    (KEDA, "config/crd/bases/*.yaml"),
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/*.yaml"),
    (CLOUDNATIVE_PG, "config/crd/bases/postgresql.cnpg.io_clusters.yaml"),
    (EXTERNAL_SECRETS, "config/crds/bases/external-secrets.io_externalsecrets.yaml"),
)
"""CRDs of the operators that the chart and its examples have objects for."""
STRIMZI = Path(__file__).with_name("strimzi.yaml")
PROMETHEUS = Module(
    "github.com/prometheus/prometheus", "v0.313.5", ("cloud.google.com/go => cloud.google.com/go v0.123.0",)
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A program: the package that it is built from, and flags of the linker."""

    name: str
    module: Module
    package: str
    flags: str = ""

    @property
    def program(self) -> Path:
        """Where it is kept."""
        return folder() / "bin" / self.name

    @property
    def identity(self) -> str:
        """What it was built from: it is built anew when that changes."""
        return f"{self.module.go_mod(self.package)}{self.flags}\n"

    def build(self) -> None:
        """Build it, unless it is there."""
        stamp = self.program.with_suffix(".version")
        if self.program.exists() and stamp.exists() and stamp.read_text() == self.identity:
            return
        sys.stderr.write(f"building {self.name} {self.module.version}\n")
        place = folder() / "modules" / self.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "go.mod").write_text(self.module.go_mod(self.package))
        run("go", "mod", "tidy", folder=place, seconds=1800)
        flags = f"-s -w {self.flags}".strip()
        built = self.program.with_suffix(".new")
        command = ("go", "build", "-trimpath", "-ldflags", flags, "-o", built, self.package)
        run(*command, folder=place, environment={"CGO_ENABLED": "0"}, seconds=3600)
        built.rename(self.program)
        stamp.write_text(self.identity)


TOOLS = (
    Tool("helm", Module("helm.sh/helm/v3", "v3.22.0"), "helm.sh/helm/v3/cmd/helm", HELM_FLAGS),
    Tool(
        "kubeconform", Module("github.com/yannh/kubeconform", "v0.8.0"), "github.com/yannh/kubeconform/cmd/kubeconform"
    ),
    Tool(
        "helm-unittest",
        Module(
            "github.com/helm-unittest/helm-unittest",
            "v1.1.2",
            ("github.com/vmware-labs/yaml-jsonpath v0.3.2 => github.com/helm-unittest/yaml-jsonpath v0.4.0",),
        ),
        "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
    ),
    Tool("kube-score", Module("github.com/zegl/kube-score", "v1.20.0"), "github.com/zegl/kube-score/cmd/kube-score"),
    Tool("promtool", PROMETHEUS, "github.com/prometheus/prometheus/cmd/promtool"),
    Tool("etcd", Module("go.etcd.io/etcd/server/v3", "v3.7.3"), "go.etcd.io/etcd/server/v3"),
    Tool("kwok", KWOK, "sigs.k8s.io/kwok/cmd/kwok"),
    *(
        Tool(name, KUBERNETES_MODULE, f"k8s.io/kubernetes/cmd/{name}", KUBERNETES_FLAGS)
        for name in ("kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ),
)


def folder() -> Path:
    """Where all of it is kept."""
    return cache_folder() / "deploy"


def module_folder(module: Module) -> Path:
    """A module's files, downloaded if need be."""
    told = json.loads(run("go", "mod", "download", "-json", f"{module.path}@{module.version}"))
    return Path(told["Dir"])


def copy_definitions() -> None:
    """The operators' CRDs, and the stages by which kwok's nodes act."""
    crds = folder() / "crds"
    crds.mkdir(parents=True, exist_ok=True)
    for module, pattern in DEFINITIONS:
        for file in sorted(module_folder(module).glob(pattern)):
            (crds / file.name).write_bytes(file.read_bytes())
    (crds / STRIMZI.name).write_bytes(STRIMZI.read_bytes())
    stages = module_folder(KWOK) / "kustomize" / "stage"
    found = [
        file.read_text()
        for kind in ("node/fast", "node/heartbeat-with-lease", "pod/fast", "pod/chaos")
        for file in sorted((stages / kind).glob("*.yaml"))
        if file.name != "kustomization.yaml"
    ]
    (folder() / "kwok-stages.yaml").write_text("\n---\n".join(found))


def install_checkers() -> None:
    """checkov, hadolint and the schemas of Kubernetes' objects, in a virtual environment of their own."""
    place = folder() / "checkers"
    stamp = place / "requirements.lock"
    if stamp.exists() and stamp.read_bytes() == REQUIREMENTS.read_bytes():
        return
    venv.create(place, clear=True, with_pip=True)
    pip = (place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "-r", REQUIREMENTS, seconds=1800)
    stamp.write_bytes(REQUIREMENTS.read_bytes())


def build_all() -> None:
    """Build and fetch what is missing.

    Raises:
        Failed: something could not be built, or Go is missing.
    """
    if shutil.which("go") is None:
        raise Failed("Go 1.26 or later is missing: https://go.dev/dl")
    (folder() / "bin").mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        tool.build()
    copy_definitions()
    install_checkers()
    run(folder() / "checkers" / "bin" / "python", Path(__file__).with_name("schemas.py"), folder())


if __name__ == "__main__":
    build_all()
