"""Markup of components for the page: signs of states, bars of days, and rows in the order of the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from dashboard.status_page.history import BAR_DAYS
from dashboard.status_page.snapshot import PageSnapshot, PublicComponent, PublicState
from dashboard.status_page.timeline import Figures

MIN_HEIGHT = 15  # of 100: of the part of a bar that shows a short fault
# Class, of the style sheets, and shape of each state.
_SIGNS = {
    PublicState.OPERATIONAL: ("good", "s-ok"),
    PublicState.UNDER_MAINTENANCE: ("info", "s-work"),
    PublicState.UNKNOWN: ("none", "s-none"),
    PublicState.DEGRADED: ("warning", "s-warn"),
    PublicState.PARTIAL_OUTAGE: ("error", "s-part"),
    PublicState.MAJOR_OUTAGE: ("critical", "s-out"),
}


def css_class(state: PublicState) -> str:
    return _SIGNS[state][0]


@cache
def sign(state: PublicState, label: str | None = None) -> SafeString:
    """Return the sign of a state with its word, or with another label."""
    name, shape = _SIGNS[state]
    return format_html(
        '<span class="lv {}"><svg aria-hidden="true"><use href="#{}"/></svg>{}</span>',
        name,
        shape,
        label or state.label,
    )


def percent(share: float | None) -> str:
    """Return a share with two decimals; less than 100 % is never rounded to it."""
    if share is None:
        return "–"
    text = f"{share * 100:.2f}"
    return f"{'99.99' if text == '100.00' and share < 1 else text} %"


def bars(component: PublicComponent) -> SafeString:
    """Return the bars of the last days. Days without fault are one shape; the gaps between days are in the style."""
    shown = component.bars or ()
    shapes = [f'<path class="up-{name}" d="{path}"/>' for name, path in _paths(shown) if path]
    figures = component.periods[BAR_DAYS]
    label = f"{component.name}, last {BAR_DAYS} days: {describe_uptime(figures)}"
    return format_html(
        '<svg class="uptime" viewBox="0 0 {} 100" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>',
        BAR_DAYS, label, mark_safe("".join(shapes)),  # noqa: S308 - numbers and class names
    )  # fmt: skip


def describe_uptime(figures: Figures) -> str:
    if figures.uptime is None:
        return "not measured"
    return f"uptime {percent(figures.uptime)}"


def _paths(days: Sequence[Sequence[int] | None]) -> list[tuple[str, str]]:
    paths: dict[str, list[str]] = {"none": [], "ok": [], "work": [], "part": [], "out": []}
    runs: list[list] = []  # kind, first day, number of days
    for position, day in enumerate(days):
        kind = "none" if day is None else "ok"
        if runs and runs[-1][0] == kind:
            runs[-1][2] += 1
        else:
            runs.append([kind, position, 1])
        if day is not None:
            known, down, degraded, maintenance = day
            if down:
                paths["out"].append(_column(position, down, known))
            elif degraded:
                paths["part"].append(_column(position, degraded, known))
            elif maintenance:
                paths["work"].append(_column(position, maintenance, known))
    for kind, first, count in runs:
        top, height = (45, 10) if kind == "none" else (0, 100)
        paths[kind].append(f"M{first} {top}h{count}v{height}h-{count}z")
    return [(kind, "".join(parts)) for kind, parts in paths.items()]


def _column(position: int, seconds: int, known: int) -> str:
    """Return the lower part of a day's bar, by share of its known time."""
    height = max(MIN_HEIGHT, min(100, round(100 * seconds / known)))
    return f"M{position} {100 - height}h1v{height}h-1z"


@dataclass(frozen=True, slots=True)
class ComponentRow:
    """A row of the page. `closing`: groups that end after it. A group is open if one of its components has a fault."""

    component: PublicComponent
    sign: SafeString
    bars: SafeString | None
    figures: Figures
    uptime: str
    is_open: bool
    closing: range


def component_rows(snapshot: PageSnapshot) -> Iterator[ComponentRow]:
    """Return the rows of all components in the order of the page."""
    components = snapshot.components
    for position, component in enumerate(components):
        following = components[position + 1].depth if position + 1 < len(components) else 0
        is_childless_group = component.is_group and not component.child_ids
        closing = max(0, component.depth - following) + is_childless_group
        is_faulty = component.state != PublicState.OPERATIONAL
        figures = component.periods[BAR_DAYS]
        yield ComponentRow(
            component=component,
            sign=sign(component.state),
            bars=bars(component) if component.bars is not None else None,
            figures=figures,
            uptime=percent(figures.uptime_clear),
            is_open=is_faulty and component.is_group,
            closing=range(closing),
        )


def uptime_table(snapshot: PageSnapshot) -> list[tuple[str, list[str]]]:
    """Return for each top component and each period: uptime, uptime without maintenance, share of known time."""
    return [
        (
            component.name,
            [
                percent(share)
                for figures in component.periods.values()
                for share in (figures.uptime, figures.uptime_clear, figures.known_share)
            ],
        )
        for component in snapshot.top_components
    ]
