"""Sockets and TLS: what a certificate's owner needs of a server that must not be stopped."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornado_live.emulator.certificate import EphemeralCertificate

PROBE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def certificates() -> Iterator[list[EphemeralCertificate]]:
    made = [EphemeralCertificate("localhost") for _ in range(2)]
    yield made
    for certificate in made:
        certificate.close()


def install(certificate: EphemeralCertificate, folder: Path) -> dict[str, str]:
    """Its files where the settings say they are."""
    files = {"cert_file": folder / "cert.pem", "key_file": folder / "key.pem"}
    files["cert_file"].write_bytes(Path(certificate.ca_file).read_bytes())
    files["key_file"].write_bytes((Path(certificate.ca_file).parent / "key.pem").read_bytes())
    return {name: str(file) for name, file in files.items()}


async def probe(port: int, trusted: EphemeralCertificate) -> bytes:
    context = ssl.create_default_context(cafile=trusted.ca_file)
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    writer.write(PROBE)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.gen_test
async def test_a_certificate_is_replaced_without_a_restart(
    make_server, scripted_ears, certificates, tmp_path
) -> None:
    old, new = certificates
    server = await make_server(scripted_ears, server={"tls": install(old, tmp_path), "websocket_port": 0})
    for port in (server.port, server.websocket_port):
        assert (await probe(port, old)).startswith(b"HTTP/1.1 ")
    assert (await probe(server.port, old)).startswith(b"HTTP/1.1 200")
    with pytest.raises(ssl.SSLCertVerificationError):
        await probe(server.port, new)

    install(new, tmp_path)
    server.reload()
    assert (await probe(server.port, new)).startswith(b"HTTP/1.1 200")
    with pytest.raises(ssl.SSLCertVerificationError):
        await probe(server.port, old)


@pytest.mark.gen_test
async def test_a_pair_that_does_not_match_leaves_the_old_certificate_in_use(
    make_server, scripted_ears, certificates, tmp_path
) -> None:
    old, new = certificates
    tls = install(old, tmp_path)
    server = await make_server(scripted_ears, server={"tls": tls})
    shutil.copyfile(new.ca_file, tls["cert_file"])
    server.reload()
    assert (await probe(server.port, old)).startswith(b"HTTP/1.1 200")


@pytest.mark.gen_test
async def test_what_does_not_speak_tls_is_turned_away(
    make_server, scripted_ears, certificates, tmp_path
) -> None:
    trusted, _ = certificates
    server = await make_server(scripted_ears, server={"tls": install(trusted, tmp_path)})
    reader, writer = await asyncio.open_connection("localhost", server.port)
    writer.write(PROBE)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert (await probe(server.port, trusted)).startswith(b"HTTP/1.1 200")
