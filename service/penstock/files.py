"""Files that settings name: what is said when one cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.core.errors import PenstockError
from penstock.network import lowered


class FileUnreadable(PenstockError, OSError):
    """A file or folder that a setting names cannot be used.

    Args:
        setting: the variable, or the parameter and where it stands.
        path: of the file.
        why: the system's reason, or what is wrong with the file.
    """

    def __init__(self, setting: str, path: Path | str, why: str) -> None:
        super().__init__(f"{setting}: {path}: {why}")
        self.setting = setting
        self.path = path
        self.why = why


@contextmanager
def reading(setting: str, path: Path | str, wrong: str = "it holds no text") -> Iterator[None]:
    """Name the setting and the path in what is raised while the file is read.

    Args:
        setting: see `FileUnreadable`.
        path: of the file.
        wrong: what is said of a file that is there and whose content cannot be used.

    Raises:
        FileUnreadable: the file cannot be read or used.
    """
    try:
        yield
    except OSError as error:
        from_system = error.errno is not None and error.errno > 0 and not hasattr(error, "reason")
        raise FileUnreadable(setting, path, lowered(error.strerror) if from_system else wrong) from error
    except ValueError as error:
        raise FileUnreadable(setting, path, wrong) from error


def require_readable(setting: str, path: Path | str) -> None:
    """Open a file that a library will read; a library's own error names no file.

    Raises:
        FileUnreadable: it cannot be read.
    """
    with reading(setting, path), Path(path).open("rb") as file:
        file.read(1)
