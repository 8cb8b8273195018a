"""Public identifiers of alerts, rules, incidents, silences, channels, routes and deliveries."""

import secrets

ID_LENGTH = 24


def _generate(prefix: str) -> str:
    return prefix + secrets.token_hex(8)


def new_rule_id() -> str:
    return _generate("rule_")


def new_alert_id() -> str:
    return _generate("alt_")


def new_incident_id() -> str:
    return _generate("inc_")


def new_silence_id() -> str:
    return _generate("sil_")


def new_channel_id() -> str:
    return _generate("chn_")


def new_route_id() -> str:
    return _generate("rte_")


def new_delivery_id() -> str:
    return _generate("dlv_")
