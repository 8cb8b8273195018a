"""Numbers by which alerts, rules and whatever belongs to them are known outside."""

import secrets

ID_LENGTH = 24


def _made(prefix: str) -> str:
    return prefix + secrets.token_hex(8)


def new_rule_id() -> str:
    return _made("rule_")


def new_alert_id() -> str:
    return _made("alt_")


def new_incident_id() -> str:
    return _made("inc_")


def new_silence_id() -> str:
    return _made("sil_")


def new_channel_id() -> str:
    return _made("chn_")


def new_route_id() -> str:
    return _made("rte_")


def new_delivery_id() -> str:
    return _made("dlv_")
