"""SNMP v2c and v3: values of object identifiers, and of the subtrees below them."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from ingest.collection.kinds.kind import (
    Collected,
    CollectionJob,
    FieldErrors,
    Kind,
    check_address,
    host_field,
    port_field,
    text_field,
)
from ingest.collectors.formats.snmp_values import WALK, check_oid, oid_parts, to_value
from ingest.collectors.reading import CollectFailed, Reading
from rest.fields import ChoiceField, StrictSerializer, name_field
from rest.outgoing import ssrf_guard

MAX_OIDS = 200
MAX_WALKED = 1000  # values below one OID
OIDS_PER_REQUEST = 20
MAX_REPETITIONS = 25
RETRIES = 1
MIN_KEY_LENGTH = 8
SILENT = "agents do not answer a wrong community"
AUTH_PROTOCOLS = {
    "none": "usmNoAuthProtocol", "md5": "usmHMACMD5AuthProtocol", "sha": "usmHMACSHAAuthProtocol",
    "sha256": "usmHMAC192SHA256AuthProtocol", "sha512": "usmHMAC384SHA512AuthProtocol",
}  # fmt: skip
PRIV_PROTOCOLS = {
    "none": "usmNoPrivProtocol", "des": "usmDESPrivProtocol", "aes": "usmAesCfb128Protocol",
    "aes256": "usmAesCfb256Protocol",
}  # fmt: skip


class SnmpConfiguration(StrictSerializer):
    host = host_field()
    port = port_field(161)
    version = ChoiceField([("2c", "2c"), ("3", "3")], default="2c", label="Version", help_text="Version of SNMP.")
    oids = serializers.DictField(
        child=name_field(),
        label="OIDs",
        help_text="OID by metric, such as `uptime: 1.3.6.1.2.1.1.3.0`; with .* at its end all values below it.",
    )
    username = text_field("Username", "User of version 3.")
    auth_protocol = ChoiceField(
        [(name, name) for name in AUTH_PROTOCOLS], default="none", label="Authentication", help_text="Of version 3."
    )
    priv_protocol = ChoiceField(
        [(name, name) for name in PRIV_PROTOCOLS], default="none", label="Encryption", help_text="Of version 3."
    )

    def validate_oids(self, oids: dict[str, str]) -> dict[str, str]:
        if not 0 < len(oids) <= MAX_OIDS:
            raise serializers.ValidationError(f"1 to {MAX_OIDS} OIDs are accepted")
        errors = {name: error for name, oid in oids.items() if (error := check_oid(oid))}
        if errors:
            raise serializers.ValidationError(errors)
        return oids


class SnmpKind(Kind):
    name, label, description = "snmp", "SNMP", "Values of an SNMP agent, version 2c or 3."
    configuration_class = SnmpConfiguration
    secret_names = {
        "community": "Community of version 2c; public if not set.",
        "auth_key": "Password of authentication of version 3.",
        "priv_key": "Password of encryption of version 3.",
    }
    shown_with = {"community": ("version", "2c")} | dict.fromkeys(
        ("username", "auth_protocol", "priv_protocol", "auth_key", "priv_key"), ("version", "3")
    )

    def target(self, configuration: Mapping[str, Any]) -> str:
        return f"{configuration['host']}:{configuration['port']}"

    def check(self, configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
        if configuration["version"] == "3":
            yield from _check_user(configuration, secrets)
        yield from check_address("host", configuration["host"], configuration["port"])

    def collect(self, job: CollectionJob) -> Collected:
        address = job.resolve(job.configuration["host"], job.configuration["port"])[0]
        readings: list[Reading] = []
        error = ""
        try:
            asyncio.run(_read(job, address, readings))
        except CollectFailed as failed:
            error = str(failed)
        yield Reading("snmp.up", 1.0 if readings else 0.0)
        yield from readings
        if error:
            raise CollectFailed(error)


def _check_user(configuration: Mapping[str, Any], secrets: Mapping[str, str]) -> FieldErrors:
    if not configuration["username"]:
        yield "username", "is required for version 3"
    if configuration["auth_protocol"] == "none" and configuration["priv_protocol"] != "none":
        yield "priv_protocol", "needs authentication: choose an auth_protocol"
    for protocol, key in (("auth_protocol", "auth_key"), ("priv_protocol", "priv_key")):
        if configuration[protocol] != "none" and len(secrets.get(key, "")) < MIN_KEY_LENGTH:
            yield protocol, f"needs the secret {key} of at least {MIN_KEY_LENGTH} characters"


async def _read(job: CollectionJob, address: ssrf_guard.Address, readings: list[Reading]) -> None:
    """Append a reading for each value. Raises CollectFailed."""
    try:
        async with asyncio.timeout(job.deadline.remaining):
            await _read_all(job, address, readings)
    except TimeoutError:
        late = f"no complete answer within {job.deadline.seconds:g} s"
        raise CollectFailed(late if readings else f"{late}; {SILENT}") from None


async def _read_all(job: CollectionJob, address: ssrf_guard.Address, readings: list[Reading]) -> None:
    from pysnmp.hlapi.v3arch import asyncio as snmp  # imported on first use: saves memory in other processes

    timeout = max(0.1, job.deadline.remaining / (RETRIES + 1) - 0.1)
    transport_class = snmp.UdpTransportTarget if address.version == 4 else snmp.Udp6TransportTarget
    endpoint = (str(address), job.configuration["port"])
    transport = await transport_class.create(endpoint, timeout=timeout, retries=RETRIES)
    engine = snmp.SnmpEngine()
    problems: list[str] = []
    try:
        session = (engine, _credentials(snmp, job), transport, snmp.ContextData())
        oids = job.configuration["oids"]
        single = [(name, oid) for name, oid in oids.items() if not oid.endswith(WALK)]
        for start in range(0, len(single), OIDS_PER_REQUEST):
            await _get(snmp, session, single[start : start + OIDS_PER_REQUEST], readings, problems)
        for name, oid in oids.items():
            if oid.endswith(WALK):
                await _walk(snmp, session, name, oid, readings, problems)
    finally:
        with contextlib.suppress(Exception):
            engine.close_dispatcher()
    if problems:
        raise CollectFailed("; ".join(problems[:5]))


def _credentials(snmp: Any, job: CollectionJob) -> Any:
    wanted, secrets = job.configuration, job.secrets
    if wanted["version"] == "2c":
        return snmp.CommunityData(secrets.get("community", "public"), mpModel=1)
    has_auth, has_priv = wanted["auth_protocol"] != "none", wanted["priv_protocol"] != "none"
    return snmp.UsmUserData(
        wanted["username"],
        secrets.get("auth_key") if has_auth else None,
        secrets.get("priv_key") if has_priv else None,
        authProtocol=getattr(snmp, AUTH_PROTOCOLS[wanted["auth_protocol"]]),
        privProtocol=getattr(snmp, PRIV_PROTOCOLS[wanted["priv_protocol"]]),
    )


async def _get(
    snmp: Any, session: Any, oids: list[tuple[str, str]], readings: list[Reading], problems: list[str]
) -> None:
    objects = [snmp.ObjectType(snmp.ObjectIdentity(oid_parts(oid))) for _, oid in oids]
    answer = await snmp.get_cmd(*session, *objects, lookupMib=False)
    _raise_errors(answer)
    for (name, oid), (_, value) in zip(oids, answer[3], strict=False):
        if (converted := to_value(value)) is None:
            problems.append(f"{name}: the agent has no value of {oid}")
        else:
            readings.append(Reading(name, converted))


async def _walk(snmp: Any, session: Any, name: str, oid: str, readings: list[Reading], problems: list[str]) -> None:
    """Append the values below an OID, with the rest of their OIDs in the names."""
    root = oid_parts(oid)
    position, count = root, 0
    while True:
        next_object = snmp.ObjectType(snmp.ObjectIdentity(position))
        answer = await snmp.bulk_cmd(*session, 0, MAX_REPETITIONS, next_object, lookupMib=False)
        _raise_errors(answer)
        for found, value in answer[3]:
            parts = tuple(int(part) for part in str(found).split("."))
            if parts[: len(root)] != root or (converted := to_value(value)) is None:
                if not count:
                    problems.append(f"{name}: the agent has no values below {oid}")
                return
            if parts <= position or count == MAX_WALKED:
                reason = f"more than {MAX_WALKED:,} values" if parts > position else "OIDs that do not increase"
                problems.append(f"{name}: the agent has {reason} below {oid}")
                return
            position, count = parts, count + 1
            readings.append(Reading(f"{name}.{'.'.join(map(str, parts[len(root) :]))}", converted))
        if not answer[3]:
            return


def _raise_errors(answer: Any) -> None:
    """Raise CollectFailed for an answer with an error."""
    indication, status, index = answer[:3]
    if indication:
        hint = f"; {SILENT}" if type(indication).__name__ == "RequestTimedOut" else ""
        raise CollectFailed(f"SNMP: {indication}{hint}")
    if status:
        raise CollectFailed(f"SNMP: the agent answered {status.prettyPrint()} for value {index}")
