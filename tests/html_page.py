"""What stands in an HTML page that the project wrote."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img"}  # HTML's elements without an end, as far as the pages have them


@dataclass
class Entry:
    """An answer."""

    name: str
    text: str = ""
    mark: str = ""


@dataclass
class Page(HTMLParser):
    text: str
    figures: int = 0
    dropped: list[int] = field(default_factory=list)  # cells, by figure
    outside: list[str] = field(default_factory=list)  # what would have to be fetched
    entries: list[Entry] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    open: list[tuple[str, str]] = field(default_factory=list)  # elements and their classes

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"
        for address in re.findall(r"url\(([^)]*)\)|@import\s*(\S*)", self.text):
            self._refer("".join(address))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in VOID:
            self.open.append((tag, values.get("class", "")))
        self.figures += tag == "figure"
        if tag == "path":
            self.dropped.append(sum(map(int, re.findall(r"h(\d+)v1", values["d"]))))
        if tag == "dt":
            self.entries.append(Entry(""))
        if tag == "li":
            self.facts.append("")
        for name in ("src", "href", "srcset", "action", "data"):
            self._refer(values.get(name))
        if tag == "script":
            self.outside.append("script")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        tags = {tag for tag, _ in self.open}
        if "li" in tags:
            self.facts[-1] += data
        if "dd" in tags:
            self.entries[-1].text += data
        elif "dt" in tags and self.open[-1][1].startswith("mark"):
            self.entries[-1].mark = data.split()[-1]
        elif "dt" in tags:
            self.entries[-1].name += data.strip()

    def _refer(self, address):
        if address and not address.startswith("data:"):
            self.outside.append(address)
