"""What a browser sends of the page of a rule."""

from html.parser import HTMLParser


class Sent(HTMLParser):
    """What a browser without scripts sends of the rule's form."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self.inside = self.inert = self.first = False
        self.open = ""  # the select or textarea whose contents come
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.inside = given.get("id") == "rule"
        elif tag == "template":
            self.inert = True
        if not self.inside or self.inert:
            return
        name = given.get("name", "")
        if tag == "input" and (given.get("type") not in ("checkbox", "radio") or "checked" in given):
            self.fields.setdefault(name, []).append(given.get("value", "on"))
        elif tag in ("select", "textarea"):
            self.open, self.first = name, True
            self.fields.setdefault(name, []).append("")
        elif tag == "option":
            if self.first or "selected" in given:
                self.fields[self.open][-1] = given["value"]
            self.first = False

    def handle_data(self, data: str) -> None:
        if self.lasttag == "textarea" and self.open:
            self.fields[self.open][-1] += data.replace("\n", "\r\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "template":
            self.inert = False
        elif tag == "form":
            self.inside = False
        elif tag in ("select", "textarea"):
            self.open = ""
