"""Arrivals as text: the events of the alerting document, JSON lines and CSV as the site exports them, bulk requests."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import numpy as np

from telemetry_client.simulator.device_types import ValueKind
from telemetry_client.simulator.events import Arrival
from telemetry_client.simulator.fleet import Column, Label
from telemetry_client.simulator.hashing import Ints

CSV_HEADER = "timestamp,device_id,metric_name,value,unit,tags\r\n"
_SPECIAL_IN_CSV = frozenset(',"\r\n')


def format_times(times: Ints) -> list[str]:
    """Return times (ms) as RFC 3339."""
    if len(times) == 1:  # a tenth of the cost of an array
        return [format_time(int(times[0]))]
    texts: list[str] = np.datetime_as_string(times.astype("datetime64[ms]")).tolist()
    return [f"{text}Z" for text in texts]


def _columns_with_times(arrival: Arrival) -> Iterator[tuple[Column, list[str]]]:
    """Yield the columns with their times as text, formatted once for those that are measured at the same times."""
    formatted: dict[int, list[str]] = {}
    for column in arrival.columns:
        every = column.metric.every
        if every not in formatted:
            formatted[every] = format_times(column.times)
        yield column, formatted[every]


def format_time(time: int) -> str:
    seconds, milliseconds = divmod(time, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z"


def encode_values(column: Column) -> list[str]:
    """Return the values as JSON texts; counts without decimals as integers."""
    values = column.values
    if column.metric.kind is ValueKind.COUNTER and not column.metric.decimals:
        values = values.astype(np.int64)
    if values.dtype == object:
        return [json.dumps(value) for value in values]
    return json.dumps(values.tolist())[1:-1].split(", ")


def encode_events(arrival: Arrival) -> list[str]:
    """Return the events of the alerting document: timestamp in seconds, source, type, value, status."""
    events = []
    source = json.dumps(arrival.device.device_id)
    for column in arrival.columns:
        middle = f', "source": {source}, "type": {json.dumps(column.metric.name)}, "value": '
        times = (column.times / 1000).tolist()
        rows = zip(times, encode_values(column), strict=True)
        events += [f'{{"timestamp": {time!r}{middle}{value}, "status": "OK"}}' for time, value in rows]
    return events


def encode_json_lines(arrival: Arrival) -> list[str]:
    """Return lines with the fields of the site's export."""
    lines = []
    device = json.dumps(arrival.device.device_id)
    for column, times in _columns_with_times(arrival):
        metric, unit = json.dumps(column.metric.name), json.dumps(column.metric.unit or None, ensure_ascii=False)
        middle = f'","device_id":{device},"metric_name":{metric},"value":'
        end = f',"unit":{unit},"tags":{{}}}}\n'
        rows = zip(times, encode_values(column), strict=True)
        lines += [f'{{"timestamp":"{time}{middle}{value}{end}' for time, value in rows]
    return lines


def encode_csv(arrival: Arrival) -> list[str]:
    """Return rows with the columns of the site's export, which `manage.py load` reads."""
    lines = []
    for column, times in _columns_with_times(arrival):
        is_text = column.metric.kind is ValueKind.TEXT
        values = [_cell(value) for value in column.values] if is_text else encode_values(column)
        middle = f",{_cell(arrival.device.device_id)},{_cell(column.metric.name)},"
        end = f",{_cell(column.metric.unit)},{{}}\r\n"
        rows = zip(times, values, strict=True)
        lines += [f"{time}{middle}{value}{end}" for time, value in rows]
    return lines


def _cell(text: str) -> str:
    if _SPECIAL_IN_CSV.isdisjoint(text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def encode_points(arrival: Arrival) -> list[str]:
    """Return the points of a bulk request, as JSON."""
    points = []
    for column, times in _columns_with_times(arrival):
        middle = f'","metric_name":{json.dumps(column.metric.name)},"value":'
        rows = zip(times, encode_values(column), strict=True)
        points += [f'{{"timestamp":"{time}{middle}{value}}}' for time, value in rows]
    return points


ENCODERS: dict[str, Callable[[Arrival], list[str]]] = {
    "json": encode_events,
    "jsonl": encode_json_lines,
    "csv": encode_csv,
}


def encode_labels(labels: Iterable[Label]) -> Iterable[str]:
    """Yield labels as JSON lines."""
    for label in labels:
        fields = {
            "device": label.device_id,
            "metric": label.metric_name,
            "kind": label.kind.value,
            "start": format_time(label.start),
            "end": format_time(label.end),
        }
        yield json.dumps(fields) + "\n"
