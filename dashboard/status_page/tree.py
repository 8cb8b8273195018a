"""The components of a page as a tree."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from dashboard.status_page.models import StateMode, StatusComponent, StatusPage
from dashboard.status_page.timeline import ShareLimits

MAX_DEPTH = 5
MAX_COMPONENTS = 1000  # per page


class Node(NamedTuple):
    """A component in the order of the page: each group before its components. The depth begins at 0."""

    component: StatusComponent
    depth: int


@dataclass(slots=True)
class ComponentTree:
    """The components of one page by parent."""

    components: dict[int, StatusComponent]
    children: dict[int | None, list[StatusComponent]] = field(default_factory=dict)

    @classmethod
    def of_page(cls, page: StatusPage) -> "ComponentTree":
        return cls.of(page.components.select_related("history").defer("history__days"))

    @classmethod
    def of(cls, components: Iterable[StatusComponent]) -> "ComponentTree":
        tree = cls({component.pk: component for component in components})
        for component in tree.components.values():
            tree.children.setdefault(component.parent_id, []).append(component)
        return tree

    def walk(self, parent: int | None = None, depth: int = 0) -> Iterator[Node]:
        """Return all components below a parent in the order of the page."""
        for component in self.children.get(parent, ()):
            yield Node(component, depth)
            yield from self.walk(component.pk, depth + 1)

    def leaves(self) -> list[StatusComponent]:
        return [component for component in self.components.values() if component.is_leaf]

    def is_group(self, component: StatusComponent) -> bool:
        return not component.is_leaf

    def with_ancestors(self, component: StatusComponent) -> Iterator[int]:
        """Return the keys of a component and of the groups that contain it."""
        pk: int | None = component.pk
        while pk is not None:
            yield pk
            pk = self.components[pk].parent_id

    def descendants(self, component: StatusComponent) -> list[StatusComponent]:
        return [node.component for node in self.walk(component.pk)]


def share_limits(component: StatusComponent) -> ShareLimits | None:
    """Return the limits of a component whose state follows from a share; None for the worst of all."""
    if component.mode != StateMode.SHARE:
        return None
    return ShareLimits(component.partial_percent, component.major_percent)
