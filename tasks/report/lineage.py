"""The lineage: which sealed directory was made from which, as a picture that reads from top to bottom.

In: the sealed directories of a build. Out: `lineage`, facts; `draw`, inline SVG that takes its colours from the page.
An arrow that follows from others (a -> c, where a -> b -> c) is not drawn; the report's table lists every input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from domainlm.tasks.report.documents import Stages

BOX_WIDTH, BOX_HEIGHT = 132, 44  # six sources side by side fit the page
GAP_X, GAP_Y = 12, 34
TEXT_CHARS = 18  # what fits a box at 12 pixels


@dataclass(frozen=True)
class Origin:
    """An input of a stage: by what name, from where (a sealed directory, or outside), which bytes."""

    name: str
    origin: str
    digest: str


@dataclass(frozen=True)
class Link:
    """One sealed directory of the build."""

    name: str
    directory: str
    key: str
    digest: str
    version: int
    seconds: float
    inputs: tuple[Origin, ...]


@dataclass(frozen=True)
class Box:
    """A place in the picture: its layer from the top, and its place in the layer."""

    layer: int
    place: float


def lineage(stages: Stages) -> tuple[Link, ...]:
    """Every sealed directory of the build, first to last."""
    return tuple(
        Link(
            name=name,
            directory=sealed.path.name,
            key=sealed.manifest.key,
            digest=sealed.manifest.digest,
            version=sealed.manifest.version,
            seconds=sealed.manifest.provenance.seconds,
            inputs=tuple(Origin(key, one.origin, one.digest) for key, one in sorted(sealed.manifest.inputs.items())),
        )
        for name, sealed in stages.items()
    )


def draw(links: tuple[Link, ...]) -> str:
    """The picture as SVG."""
    parents = reduced(_parents(links))
    boxes = place(parents)
    widest = max(sum(box.layer == layer for box in boxes.values()) for layer in range(_depth(boxes)))
    width = widest * (BOX_WIDTH + GAP_X) - GAP_X
    height = _depth(boxes) * (BOX_HEIGHT + GAP_Y) - GAP_Y
    corners = {name: _corner(box, boxes, width) for name, box in boxes.items()}
    arrows = [_arrow(corners[parent], corners[name]) for name in boxes for parent in sorted(parents[name])]
    shown = [_box(corners[link.name], link) for link in links]
    return (
        f'<svg class="lineage" role="img" aria-label="Lineage of the sealed directories" width="{width + 2}" '
        f'height="{height + 2}" viewBox="-1 -1 {width + 2} {height + 2}">{"".join(arrows)}{"".join(shown)}</svg>'
    )


def reduced(parents: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Parents without those that are reached through another parent."""
    above: dict[str, frozenset[str]] = {}

    def ancestors(name: str) -> frozenset[str]:
        if name not in above:
            above[name] = parents[name].union(*(ancestors(parent) for parent in parents[name]))
        return above[name]

    return {
        name: frozenset(p for p in direct if not any(p in ancestors(other) for other in direct - {p}))
        for name, direct in parents.items()
    }


def place(parents: Mapping[str, frozenset[str]]) -> dict[str, Box]:
    """Each below all its parents, and in its layer near the middle of them."""
    layers: dict[str, int] = {}

    def layer(name: str) -> int:
        if name not in layers:
            layers[name] = 1 + max((layer(parent) for parent in parents[name]), default=-1)
        return layers[name]

    boxes: dict[str, Box] = {}
    for depth in range(1 + max((layer(name) for name in parents), default=0)):
        names = [name for name in parents if layers[name] == depth]
        middles = {name: _middle([boxes[parent].place for parent in parents[name]]) for name in names}
        for number, name in enumerate(sorted(names, key=lambda name: (middles[name], name))):
            boxes[name] = Box(depth, number - (len(names) - 1) / 2)
    return boxes


def _parents(links: tuple[Link, ...]) -> dict[str, frozenset[str]]:
    """Who made the inputs of each. A stage that was built again to the same bytes did not make those after it anew, and
    they name its former directory: so the key at the end of the name is left out."""
    names = {link.directory.rpartition("-")[0]: link.name for link in links}
    made_by = {
        link.name: [one.origin.split("/")[0].rpartition("-")[0] for one in link.inputs if "-" in one.origin]
        for link in links
    }
    return {
        name: frozenset(names[folder] for folder in folders if folder in names) for name, folders in made_by.items()
    }


def _middle(places: list[float]) -> float:
    return sum(places) / len(places) if places else 0.0


def _depth(boxes: Mapping[str, Box]) -> int:
    return 1 + max(box.layer for box in boxes.values())


def _corner(box: Box, boxes: Mapping[str, Box], width: int) -> tuple[float, float]:
    x = width / 2 + box.place * (BOX_WIDTH + GAP_X) - BOX_WIDTH / 2
    return round(x, 1), float(box.layer * (BOX_HEIGHT + GAP_Y))


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x0, y0, x1, y1 = start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT, end[0] + BOX_WIDTH / 2, end[1]
    bend = min(GAP_Y, y1 - y0) * 0.6
    return f'<path d="M{x0:g} {y0:g}C{x0:g} {y0 + bend:g} {x1:g} {y1 - bend:g} {x1:g} {y1:g}"/>'


def _box(corner: tuple[float, float], link: Link) -> str:
    x, y = corner
    stage, _, label = link.name.partition(".")
    label = label if len(label) <= TEXT_CHARS else label[: TEXT_CHARS - 1] + "…"
    return (
        f'<g transform="translate({x:g} {y:g})"><title>{escape(link.directory)}</title>'
        f'<rect width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text x="10" y="18">{escape(stage)}</text>'
        f'<text x="10" y="34" class="quiet">{escape(label) if label else link.key[:8]}</text></g>'
    )
