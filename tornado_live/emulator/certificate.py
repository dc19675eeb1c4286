"""A certificate that lives as long as the emulator: Google's SDKs insist on TLS."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class EphemeralCertificate:
    """A self-signed certificate for `localhost`, the loopback addresses and `host`, in a private folder.

    Attributes:
        ca_file: the certificate, to be trusted by clients. `close` deletes it together with the key.
    """

    def __init__(self, host: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gemini-live-emulator-")
        folder = Path(self._folder.name)
        self._key_file = str(folder / "key.pem")
        self.ca_file = str(folder / "certificate.pem")
        key = ec.generate_private_key(ec.SECP256R1())
        Path(self._key_file).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        certificate = _self_signed(key, host)
        Path(self.ca_file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self, untrusted: bool = False) -> ssl.SSLContext:
        """
        Args:
            untrusted: with another certificate than the one in `ca_file`.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if untrusted:
            other = EphemeralCertificate("localhost")
            context.load_cert_chain(other.ca_file, other._key_file)
            other.close()
        else:
            context.load_cert_chain(self.ca_file, self._key_file)
        return context

    def close(self) -> None:
        self._folder.cleanup()


def _self_signed(key: ec.EllipticCurvePrivateKey, host: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gemini Live emulator")])
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        # Python 3.13 verifies strictly (RFC 5280): a CA certificate must say what its key is for.
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(key, hashes.SHA256())
    )


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    addresses = {"127.0.0.1", "::1"}
    try:
        ipaddress.ip_address(host)
        addresses.add(host)
    except ValueError:
        if host != "localhost":
            names.append(x509.DNSName(host))
    return names + [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)]
