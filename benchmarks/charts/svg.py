"""SVG: elements, a style sheet for light and dark themes, and how wide text is."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

# In units of the picture. On a phone of 360 px these are 10 px and more; a desktop shows it half again as large.
WIDTH, SHOWN_WIDTH = 400.0, 600
TITLE, TEXT, SMALL = 15.0, 12.5, 11.5  # sizes of fonts
# Told apart with every kind of colour vision, and by markers too; three times the contrast of the background and more.
LIGHT = ("#0969da", "#bc4c00", "#00795c", "#a0418a", "#8a6100", "#59636e", "#1b7c83", "#82071e")
DARK = ("#58a6ff", "#f0883e", "#2dd4a7", "#e38fc8", "#e3b341", "#9198a1", "#76d7ea", "#ff8182")
COLOURS = len(LIGHT)
NARROW, WIDE = "filjrt.,:;|'() ", "mw%"
BOLD = 1.12  # times as wide

STYLE = """
text {{ font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif;
  font-size: {text}px; fill: var(--text); }}
.title {{ font-size: {title}px; font-weight: 600; }}
.strong {{ font-weight: 600; }}
.small {{ font-size: {small}px; fill: var(--muted); }}
.grid {{ stroke: var(--grid); stroke-width: 1; }}
.axis {{ stroke: var(--muted); stroke-width: 1; }}
.reference {{ stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 4 3; }}
.line {{ fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }}
.again {{ stroke-dasharray: 5 3; }}
.interval {{ stroke: var(--c); stroke-width: 1.2; opacity: 0.7; }}
.mark {{ fill: var(--c); }}
.other {{ --c: var(--muted); }}
.end {{ stroke: var(--text); stroke-width: 1.2; }}
"""


def picture(title: str, description: str, height: float) -> Element:
    """Return an empty picture with what a screen reader says of it."""
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {number(WIDTH)} {number(height)}",
            "width": str(SHOWN_WIDTH),
            "height": number(height * SHOWN_WIDTH / WIDTH),
            "role": "img",
            "aria-labelledby": "title desc",
        },
    )
    SubElement(root, "title", {"id": "title"}).text = title
    SubElement(root, "desc", {"id": "desc"}).text = description
    SubElement(root, "style").text = _style()
    return root


def render(root: Element) -> str:
    """Return the file: the same bytes for the same picture."""
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def text(parent: Element, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
    """Write `words` with their baseline at y; `anchor` says what of them is at x: start, middle or end."""
    options = ({"class": kind} if kind else {}) | ({} if anchor == "start" else {"text-anchor": anchor})
    SubElement(parent, "text", {"x": number(x), "y": number(y), **options}).text = words


def heading(parent: Element, words: str, margin: float) -> float:
    """Write the title of a picture at its top, and return where that ends."""
    y = margin
    for part in wrapped(words, BOLD * TITLE, WIDTH - 2 * margin):
        y += 1.2 * TITLE
        text(parent, margin, y, part, "title")
    return y


def line(parent: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    """Draw a straight line."""
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    SubElement(parent, "line", {"class": kind} | {name: number(value) for name, value in ends.items()})


def number(value: float) -> str:
    """Return a coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def width_of(words: str, size: float) -> float:
    """Return about how wide `words` are in a wide sans-serif font, so that they are narrower in others."""
    return size * sum(0.4 if one in NARROW else 0.78 if one.isupper() or one in WIDE else 0.63 for one in words)


def wrapped(words: str, size: float, width: float) -> Iterator[str]:
    """Yield lines of `words` that fit into `width`; a word that is longer has one of its own."""
    current = ""
    for word in words.split():
        longer = f"{current} {word}".strip()
        if current and width_of(longer, size) > width:
            yield current
            longer = word
        current = longer
    if current:
        yield current


def _style() -> str:
    def theme(words: str, muted: str, grid: str, colours: tuple[str, ...]) -> str:
        series = " ".join(f".s{index} {{ --c: {colour}; }}" for index, colour in enumerate(colours))
        return f"svg {{ --text: {words}; --muted: {muted}; --grid: {grid}; }} {series}"

    light = theme("#1f2328", "#59636e", "#d1d9e0", LIGHT)
    dark = theme("#f0f6fc", "#9ea7b1", "#3d444d", DARK)
    rules = STYLE.format(title=TITLE, text=TEXT, small=SMALL)
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}{rules}"
