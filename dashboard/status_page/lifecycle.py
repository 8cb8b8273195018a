"""Create and change status pages and their components. Pages, REST and the admin use these functions."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from zoneinfo import available_timezones

from django.db import transaction
from django.db.models import Max
from django.utils.text import slugify

from alerts.visibility import visible_rules
from dashboard.status_page.answers import clear_after_commit
from dashboard.status_page.history import forget_history, update_coverage
from dashboard.status_page.models import (
    HOST_LENGTH,
    ID_LENGTH,
    MAX_TEXT_LENGTH,
    SLUG_LENGTH,
    StateMode,
    StatusComponent,
    StatusPage,
)
from dashboard.status_page.tree import MAX_COMPONENTS, MAX_DEPTH, ComponentTree
from dashboard.status_page.visibility import are_visible
from metrics.models import NAME_LENGTH, DeviceGroup
from rest.caller import Caller
from rest.errors import InvalidFields
from rest.fields import MAX_TAGS

PAGE_FIELDS = ("slug", "host_name", "title", "text", "published", "time_zone")
SOURCE_FIELDS = ("device_groups", "rule_ids", "tags")
STATE_FIELDS = (*SOURCE_FIELDS, "parent", "mode", "partial_percent", "major_percent")  # the history depends on them
COMPONENT_FIELDS = ("name", "description", "position", *STATE_FIELDS)
MAX_NAMES = 100  # device groups or rules of a component
RESERVED_SLUGS = ("api", "badge", "confirm", "history", "incidents", "subscribe", "unsubscribe")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HOST_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")
Errors = list[tuple[str, str]]


@transaction.atomic
def create_page(fields: Mapping[str, Any], caller: Caller) -> StatusPage:
    """Create a page. Raises InvalidFields."""
    return _save_page(StatusPage(created_by=caller.name), fields)


@transaction.atomic
def change_page(page: StatusPage, fields: Mapping[str, Any]) -> StatusPage:
    """Update some fields of a page. Raises InvalidFields."""
    page = StatusPage.objects.select_for_update().get(pk=page.pk)
    zone = page.time_zone
    page = _save_page(page, fields)
    if page.time_zone != zone:
        forget_history(page)
    return page


def delete_page(page: StatusPage) -> None:
    """Delete a page with its components, incidents and subscribers."""
    page.delete()
    clear_after_commit()


def _save_page(page: StatusPage, fields: Mapping[str, Any]) -> StatusPage:
    for name in PAGE_FIELDS:
        if name in fields:
            setattr(page, name, stripped(fields[name]))
    page.host_name = (page.host_name or "").lower() or None
    check_page(page)
    page.save()
    clear_after_commit()
    return page


def check_page(page: StatusPage) -> None:
    """Validate a page. Raises InvalidFields with all errors."""
    others = StatusPage.objects.exclude(pk=page.pk)
    errors = find_text_errors(("title", page.title, NAME_LENGTH, True), ("text", page.text, MAX_TEXT_LENGTH, False))
    if not _SLUG.fullmatch(page.slug) or len(page.slug) > SLUG_LENGTH:
        errors.append(("slug", f"must be 1 to {SLUG_LENGTH} small letters and digits, with hyphens between them"))
    elif page.slug in RESERVED_SLUGS:
        errors.append(("slug", "is an address of this site"))
    elif others.filter(slug=page.slug).exists():
        errors.append(("slug", "is taken"))
    if page.host_name is not None:
        if not _HOST_NAME.fullmatch(page.host_name):
            errors.append(("host_name", f"must be a name such as status.example.com, at most {HOST_LENGTH} characters"))
        elif others.filter(host_name=page.host_name).exists():
            errors.append(("host_name", "is taken"))
    if page.time_zone not in available_timezones():
        errors.append(("time_zone", "must be a time zone such as Europe/Berlin"))
    if errors:
        raise InvalidFields(errors)


def stripped(value: Any) -> Any:
    """Return a text without blanks around it; other values as they are."""
    return value.strip() if isinstance(value, str) else value


def find_text_errors(*texts: tuple[str, Any, int, bool]) -> Errors:
    """Return the errors of texts: field, value, length, and whether it is one line that must not be empty."""
    errors: Errors = []
    for name, text, length, is_line in texts:
        if not isinstance(text, str) or len(text) > length or (is_line and not text.strip()):
            errors.append((name, f"must be {'1' if is_line else '0'} to {length:,} characters"))
        elif "\0" in text or (is_line and not text.isprintable()):
            errors.append((name, "must not contain control characters"))
    return errors


@transaction.atomic
def create_component(page: StatusPage, fields: Mapping[str, Any], caller: Caller) -> StatusComponent:
    """Create a component of a page, after its siblings by default. Raises InvalidFields."""
    page = StatusPage.objects.select_for_update().get(pk=page.pk)
    component = StatusComponent(page=page)
    if fields.get("position") is None:
        siblings = page.components.filter(parent=fields.get("parent"))
        last = siblings.aggregate(last=Max("position"))["last"]
        fields = {**fields, "position": 0 if last is None else last + 1}
    return _save_component(component, fields, caller)


@transaction.atomic
def change_component(component: StatusComponent, fields: Mapping[str, Any], caller: Caller) -> StatusComponent:
    """Update some fields of a component. Raises InvalidFields."""
    StatusPage.objects.select_for_update().get(pk=component.page_id)
    return _save_component(StatusComponent.objects.get(pk=component.pk), fields, caller)


@transaction.atomic
def delete_component(component: StatusComponent) -> None:
    """Delete a component and, of a group, all components in it."""
    page = component.page
    component.delete()
    forget_history(page)
    clear_after_commit()


@transaction.atomic
def move_component(component: StatusComponent, step: int) -> None:
    """Move a component among its siblings: by -1 up, by 1 down."""
    siblings = list(StatusComponent.objects.filter(page=component.page_id, parent=component.parent_id))
    place = next(place for place, sibling in enumerate(siblings) if sibling.pk == component.pk)
    if not 0 <= place + step < len(siblings):
        return
    siblings.insert(place + step, siblings.pop(place))
    for position, sibling in enumerate(siblings):
        if sibling.position != position:
            sibling.position = position
            sibling.save()
    clear_after_commit()


@transaction.atomic
def create_components_of_groups(page: StatusPage, groups: Iterable[str], caller: Caller) -> list[StatusComponent]:
    """Create a component with the name of each device group. Raises InvalidFields."""
    return [create_component(page, {"name": name, "device_groups": [name]}, caller) for name in groups]


def unused_slug(title: str) -> str:
    """Return a slug for a title that no page has."""
    base = slugify(title)[: SLUG_LENGTH - 4].strip("-") or "status"
    taken = {*StatusPage.objects.filter(slug__startswith=base).values_list("slug", flat=True), *RESERVED_SLUGS}
    numbered = (f"{base}-{number}" for number in range(2, len(taken) + 3))
    return next(slug for slug in (base, *numbered) if slug not in taken)


def _save_component(component: StatusComponent, fields: Mapping[str, Any], caller: Caller) -> StatusComponent:
    before = [getattr(component, name) for name in STATE_FIELDS]
    for name in COMPONENT_FIELDS:
        if name in fields:
            setattr(component, name, stripped(fields[name]))
    check_component(component, caller)
    component.save()
    if before != [getattr(component, name) for name in STATE_FIELDS]:
        forget_history(component.page)
        if component.is_leaf:
            update_coverage([component])
    clear_after_commit()
    return component


def check_component(component: StatusComponent, caller: Caller) -> None:
    """Validate a component and its place in the tree. Raises InvalidFields with all errors."""
    errors = find_text_errors(
        ("name", component.name, NAME_LENGTH, True), ("description", component.description, MAX_TEXT_LENGTH, False)
    )
    errors += _find_source_errors(component, caller) or _find_place_errors(component)
    if component.mode not in StateMode.values:
        errors.append(("mode", f"must be {' or '.join(StateMode.values)}"))
    elif component.mode == StateMode.SHARE and component.rule_ids and not (component.device_groups or component.tags):
        errors.append(("mode", "share needs device_groups or tags: the share is that of their devices"))
    if not 1 <= component.partial_percent <= component.major_percent <= 100:
        errors.append(("partial_percent", "must be 1 to major_percent, which must be at most 100"))
    if component.position is None or not 0 <= component.position < 2**31:
        errors.append(("position", f"must be 0 to {2**31 - 1}"))
    if errors:
        raise InvalidFields(errors)


def _find_source_errors(component: StatusComponent, caller: Caller) -> Errors:
    errors: Errors = []
    for name, length in (("device_groups", NAME_LENGTH), ("rule_ids", ID_LENGTH)):
        names = getattr(component, name)
        is_list = isinstance(names, list) and all(isinstance(one, str) and 0 < len(one) <= length for one in names)
        if not is_list or len(names) > MAX_NAMES:
            errors.append((name, f"must be a list of at most {MAX_NAMES} names of 1 to {length} characters"))
    tags = component.tags
    if not isinstance(tags, dict) or len(tags) > MAX_TAGS or any(not isinstance(tag, str) for tag in tags.values()):
        errors.append(("tags", f"must be an object of at most {MAX_TAGS} names and texts"))
    if errors:
        return errors
    groups = DeviceGroup.objects.visible_to(caller).filter(name__in=component.device_groups)
    if missing := sorted(set(component.device_groups) - set(groups.values_list("name", flat=True))):
        errors.append(("device_groups", f"there is no device group {missing[0]}"))
    rules = visible_rules(caller).filter(rule_id__in=component.rule_ids)
    if missing := sorted(set(component.rule_ids) - set(rules.values_list("rule_id", flat=True))):
        errors.append(("rule_ids", f"there is no alert rule {missing[0]}"))
    if not errors and not are_visible([component], caller):
        errors.append(("device_groups", "is required: tags alone concern devices of groups that you do not see"))
    return errors


def _find_place_errors(component: StatusComponent) -> Errors:
    tree = ComponentTree.of(component.page.components.all())
    others = [other for other in tree.components if other != component.pk]
    if len(others) >= MAX_COMPONENTS:
        return [("page", f"has {MAX_COMPONENTS:,} components already, which is the maximum")]
    below = tree.descendants(component) if component.pk is not None else []
    if component.is_leaf and below:
        return [("device_groups", "must be empty, and rule_ids and tags too: the component contains others")]
    parent = component.parent
    if parent is None:
        above = 0
    elif parent.page_id != component.page_id:
        return [("parent_id", "must be a component of this page")]
    elif parent.is_leaf:
        return [("parent_id", "must be a group: a component without device_groups, rule_ids and tags")]
    elif parent.pk == component.pk or parent.pk in {child.pk for child in below}:
        return [("parent_id", "must not be the component itself or one in it")]
    else:
        above = len(list(tree.with_ancestors(parent)))
    height = max((node.depth + 1 for node in tree.walk(component.pk)), default=0) if component.pk is not None else 0
    if above + 1 + height > MAX_DEPTH:
        return [("parent_id", f"components may be nested {MAX_DEPTH} levels deep at most")]
    return []
