"""What a DSN says, which of its parameters are honoured, and what is refused."""

import ssl
from pathlib import Path

import pytest

from penstock.core.errors import ConfigurationError
from penstock.files import FileUnreadable
from penstock.postgres.dsn import CONNECT_SECONDS, PARAMETERS, host_name, read_target

VARIABLE = "PENSTOCK_POSTGRES_DSN"
DSN = "postgresql://user:canary@db:6432/penstock"


@pytest.fixture(autouse=True)
def no_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGTARGETSESSIONATTRS", "PGSSLROOTCERT", "PGSSLMODE", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)


def hosts(dsn: str) -> list[str]:
    return [host_name(each) for each in read_target(dsn, VARIABLE).hosts]


def refused(dsn: str) -> str:
    with pytest.raises((ConfigurationError, FileUnreadable)) as raised:
        read_target(dsn, VARIABLE)
    assert "canary" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("dsn", "named"),
    [
        (DSN, ["db:6432"]),
        ("postgresql://user:canary@db/penstock", ["db:5432"]),
        ("postgresql://a:1,b,[::1]:3/penstock", ["a:1", "b:5432", "[::1]:3"]),
        ("postgresql:///penstock?host=a,b&port=1,2", ["a:1", "b:2"]),
        ("postgresql:///penstock?host=/run/db&port=7", ["/run/db/.s.PGSQL.7"]),
        ("postgresql://user:can%40ary@db/penstock", ["db:5432"]),
        ("postgresql://user:right@canary@db/penstock", ["db:5432"]),
    ],
)
def test_hosts_are_named_as_the_client_finds_them(dsn: str, named: list[str]) -> None:
    assert hosts(dsn) == named


def test_hosts_may_come_from_libpqs_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("PGPORT", "7")
    assert hosts("postgresql:///penstock") == ["elsewhere:7"]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:canary/x@db/penstock",
        "postgresql://user:canary#x@db/penstock",
        "postgresql://user:can[ary@db/penstock",
        "postgresql://user:x@[canary@db/penstock",
        "postgresql://user:canary@db:port/penstock",
        "postgresql://user:canary@db/penstock?sslmode",
    ],
)
def test_a_dsn_that_cannot_be_read_is_told_without_its_password(dsn: str) -> None:
    assert refused(dsn).startswith(f"{VARIABLE} cannot be read: it takes postgresql://user:password@host:5432/database")


def test_what_the_client_does_not_take_is_told_in_its_words() -> None:
    assert refused(f"{DSN}?sslmode=verify").startswith(f"{VARIABLE} cannot be read: `sslmode` parameter must be one of")
    assert refused("mysql://user:canary@db/penstock").startswith(f"{VARIABLE} cannot be read: invalid DSN: scheme")


def test_what_hosted_databases_put_into_a_dsn_is_taken() -> None:
    given = (
        "sslmode=require&channel_binding=prefer&connect_timeout=7&application_name=app&keepalives=1&keepalives_idle=30"
        "&gssencmode=disable&sslcompression=0&target_session_attrs=primary&load_balance_hosts=random&options=-c%20jit%3Doff"
    )
    target = read_target(f"{DSN}?{given}", VARIABLE)
    assert target.dsn == f"{DSN}?sslmode=require&options=-c%20jit%3Doff"
    assert (target.connect_seconds, target.session_attrs, target.shuffled) == (7, "primary", True)


def test_a_dsn_without_parameters_asks_for_a_server_that_takes_writes() -> None:
    target = read_target(DSN, VARIABLE)
    assert (target.dsn, target.connect_seconds, target.session_attrs) == (DSN, CONNECT_SECONDS, "read-write")
    assert not target.shuffled


@pytest.mark.parametrize(
    ("given", "seconds"), [("1", 2.0), ("0", CONNECT_SECONDS), ("-1", CONNECT_SECONDS), ("9", 9.0)]
)
def test_a_time_for_connecting_is_that_of_libpq(given: str, seconds: float) -> None:
    assert read_target(f"{DSN}?connect_timeout={given}", VARIABLE).connect_seconds == seconds


@pytest.mark.parametrize("name", [name for name, rule in PARAMETERS.items() if rule.safe is not None])
def test_what_would_be_weaker_without_a_parameter_is_refused_with_its_name(name: str) -> None:
    told = refused(f"{DSN}?{name}=canary")
    assert told.startswith(f"{VARIABLE}: Penstock cannot do what the parameter {name} demands: ")
    assert told.endswith(".")


def test_channel_binding_is_refused_with_what_can_be_done_instead() -> None:
    assert refused(f"{DSN}?channel_binding=require") == (
        f"{VARIABLE}: Penstock cannot do what the parameter channel_binding demands: Penstock has no channel binding;"
        " sslmode=verify-full proves the server. Take the parameter out, or write channel_binding=disable or"
        " channel_binding=prefer."
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("connect_timeout=soon", "the parameter connect_timeout takes whole seconds"),
        ("load_balance_hosts=yes", "the parameter load_balance_hosts takes disable, random"),
        ("target_session_attrs=master", "the parameter target_session_attrs takes any, primary, standby"),
        ("sslrootcert=system&ssl_min_protocol_version=SSLv9", "the parameter ssl_min_protocol_version takes TLSv1.2"),
    ],
)
def test_a_value_that_is_not_known_is_told_with_those_that_are(given: str, told: str) -> None:
    assert refused(f"{DSN}?{given}").startswith(f"{VARIABLE}: {told}")


@pytest.mark.parametrize("name", ["sslrootcert", "sslcrl", "sslcert", "sslkey", "passfile"])
def test_a_file_that_is_missing_is_told_with_its_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    why = f"{tmp_path / 'missing'}: no such file or directory"
    assert refused(f"{DSN}?sslmode=verify-full&{name}={tmp_path / 'missing'}") == f"{VARIABLE}: {name}: {why}"
    monkeypatch.setenv(f"PG{name.upper()}", str(tmp_path / "missing"))
    assert refused(f"{DSN}?sslmode=require") == f"PG{name.upper()}: {why}"


@pytest.mark.parametrize("name", ["sslrootcert", "sslcrl", "sslcert"])
def test_a_file_of_another_kind_is_told_with_its_parameter(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("no certificate")
    told = refused(f"{DSN}?sslmode=verify-full&{name}={tmp_path / 'file'}")
    assert told.startswith(f"{VARIABLE}: {name}: {tmp_path / 'file'}: it holds no")


def test_a_password_file_that_others_may_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("*:*:*:*:canary")
    (tmp_path / "pass").chmod(0o644)
    assert refused(f"{DSN}?passfile={tmp_path / 'pass'}").endswith("take that right away (mode 0600)")
    (tmp_path / "pass").chmod(0o600)
    assert hosts(f"{DSN}?passfile={tmp_path / 'pass'}") == ["db:6432"]


def test_the_systems_authorities_prove_server_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("sslrootcert=system", "sslrootcert=system&sslmode=verify-full"):
        tls = read_target(f"{DSN}?{given}", VARIABLE).tls
        assert tls is not None
        assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    told = "sslrootcert=system takes sslmode=verify-full"
    assert refused(f"{DSN}?sslrootcert=system&sslmode=require") == f"{VARIABLE}: {told}"
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    assert read_target(DSN, VARIABLE).tls is not None
