"""The fields that a browser without scripts submits with the form of a rule."""

from html.parser import HTMLParser


class SubmittedForm(HTMLParser):
    """Parser of a rule page: `fields` has the values of each input by name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self.in_form = self.in_template = self.is_first_option = False
        self.open_input = ""  # the name of the select or textarea whose content is parsed
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.in_form = attributes.get("id") == "rule"
        elif tag == "template":
            self.in_template = True
        if not self.in_form or self.in_template:
            return
        name = attributes.get("name", "")
        is_choice = attributes.get("type") in ("checkbox", "radio")
        if tag == "input" and (not is_choice or "checked" in attributes):
            self.fields.setdefault(name, []).append(attributes.get("value", "on" if is_choice else ""))
        elif tag in ("select", "textarea"):
            self.open_input, self.is_first_option = name, True
            self.fields.setdefault(name, []).append("")
        elif tag == "option":
            if self.is_first_option or "selected" in attributes:
                self.fields[self.open_input][-1] = attributes["value"]
            self.is_first_option = False

    def handle_data(self, data: str) -> None:
        if self.lasttag == "textarea" and self.open_input:
            text = data if self.fields[self.open_input][-1] else data.removeprefix("\n")  # as HTML defines it
            self.fields[self.open_input][-1] += text.replace("\n", "\r\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "template":
            self.in_template = False
        elif tag == "form":
            self.in_form = False
        elif tag in ("select", "textarea"):
            self.open_input = ""
