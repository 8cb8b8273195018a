"""The text formats of Prometheus and OpenMetrics as readings. Pure.

The name of a sample with labels is `name{label="value",…}` with sorted labels, as Prometheus writes a series. The
labels are tags too.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import translate

from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ingest.collectors.reading import CollectFailed, Reading

ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
UNITS = {
    "_seconds": "s",
    "_bytes": "B",
    "_celsius": "°C",
    "_ratio": "",
    "_percent": "%",
    "_volts": "V",
    "_amperes": "A",
}


def parse_samples(
    body: bytes,
    content_type: str,
    *,
    patterns: Sequence[str] = (),
    ignore_labels: Collection[str] = (),
    device_label: str = "",
) -> Iterator[Reading]:
    """Yield the finite samples whose name matches a pattern. Raises CollectFailed for a text that is not valid."""
    wanted = re.compile("|".join(translate(pattern) for pattern in patterns) or ".*")
    try:
        for family in _families(body.decode("utf-8"), content_type):
            for sample in family.samples:
                if wanted.fullmatch(sample.name) and math.isfinite(sample.value):
                    yield _reading(sample, ignore_labels, device_label)
    except UnicodeDecodeError as error:
        raise CollectFailed(f"the metrics are not UTF-8: byte {error.start}") from None
    except (ValueError, KeyError, IndexError) as error:
        raise CollectFailed(f"the metrics are not in the text format of Prometheus: {error}"[:300]) from None


def _families(text: str, content_type: str) -> Iterable[Metric]:
    if "openmetrics" in content_type.lower():
        families: Iterable[Metric] = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        return families
    return text_string_to_metric_families(text)


def _reading(sample: Sample, ignore_labels: Collection[str], device_label: str) -> Reading:
    labels = {name: value for name, value in sorted(sample.labels.items()) if name not in ignore_labels}
    device = labels.pop(device_label, None) if device_label else None
    series = ",".join(f'{name}="{value}"' for name, value in labels.items())
    name = f"{sample.name}{{{series}}}" if series else sample.name
    unit = next((unit for ending, unit in UNITS.items() if sample.name.endswith(ending)), None)
    time = None if sample.timestamp is None else int(float(sample.timestamp) * 1_000_000)
    return Reading(name, float(sample.value), unit, device, labels or None, time)
