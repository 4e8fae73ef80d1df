"""A certificate authority for tests, and what it signs."""

import subprocess
from pathlib import Path


def certificates(folder: Path, *names: str) -> None:
    """Make a certificate authority, `ca.pem`, and for each name a key and what it signs for it at 127.0.0.1."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in names:
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.request", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.request", "-out", f"{name}.pem", *signed)
