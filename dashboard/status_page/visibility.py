"""The status pages that a caller may see and change: those whose components concern only what the caller sees."""

from collections.abc import Iterable

from django.db.models import QuerySet

from alerts.visibility import visible_group_names, visible_rules
from dashboard.status_page.models import StatusComponent, StatusPage
from rest.caller import Caller


def visible_pages(caller: Caller) -> QuerySet[StatusPage]:
    """Return the pages that a caller may see and change.

    A page that names groups, rules or tags of other devices is not visible; one without components only to its author.
    """
    pages = StatusPage.objects.all()
    if caller.sees_all:
        return pages
    leaves: dict[int, list[StatusComponent]] = {}
    for component in StatusComponent.objects.order_by():
        leaves.setdefault(component.page_id, [])
        if component.is_leaf:
            leaves[component.page_id].append(component)
    visible = [page for page, components in leaves.items() if components and are_visible(components, caller)]
    return pages.filter(pk__in=visible) | pages.filter(created_by=caller.name).exclude(
        pk__in=[page for page, components in leaves.items() if components and page not in visible]
    )


def are_visible(components: Iterable[StatusComponent], caller: Caller) -> bool:
    """Return whether a caller sees all devices and rules that components name."""
    if caller.sees_all:
        return True
    groups: set[str] = set()
    rule_ids: set[str] = set()
    for component in components:
        if component.is_leaf and not component.device_groups and not component.rule_ids:
            return False  # tags alone concern devices of all groups
        groups.update(component.device_groups)
        rule_ids.update(component.rule_ids)
    if len(visible_group_names(sorted(groups), caller)) < len(groups):
        return False
    return visible_rules(caller).filter(rule_id__in=rule_ids).count() == len(rule_ids)
