"""SVG badges: the state of a page or of one component."""

from django.template.loader import render_to_string

from dashboard.status_page.answers import Answer
from dashboard.status_page.snapshot import PageSnapshot, PublicState

CHARACTER_WIDTH = 6.6  # of the font at 11 px; the texts are fitted into their boxes
PADDING = 12
MAX_LABEL = 40
COLOURS = {  # white text on them has a contrast of at least 4.5
    PublicState.OPERATIONAL: "#19703f",
    PublicState.UNDER_MAINTENANCE: "#2a5da8",
    PublicState.UNKNOWN: "#5b686c",
    PublicState.DEGRADED: "#7a5200",
    PublicState.PARTIAL_OUTAGE: "#a83f06",
    PublicState.MAJOR_OUTAGE: "#b3162b",
}


def render_badge(snapshot: PageSnapshot, component_id: str | None = None) -> Answer:
    """Return the badge of a page, or of one of its components. Raises KeyError."""
    if component_id is None:
        label, state = snapshot.title, snapshot.state
    else:
        component = snapshot.component_by_id[component_id]
        label, state = component.name, component.state
    if len(label) > MAX_LABEL:
        label = f"{label[: MAX_LABEL - 1]}…"
    left, right = (round(len(text) * CHARACTER_WIDTH) + PADDING for text in (label, state.label))
    context = {
        "label": label,
        "state": state.label,
        "colour": COLOURS[state],
        "left": left,
        "right": right,
        "width": left + right,
        "label_middle": left / 2,
        "state_middle": left + right / 2,
        "label_width": left - PADDING,
        "state_width": right - PADDING,
    }
    return Answer.of(render_to_string("status/badge.svg", context).encode(), "image/svg+xml")
