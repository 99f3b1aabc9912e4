"""The paper that a chart is drawn on: text at pixels, in characters that the fonts have.

Like all that draws it needs matplotlib, which it imports when it is used: only the worker uses it.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from notifiers.charts.labels import Box

if TYPE_CHECKING:
    from matplotlib.backend_bases import RendererBase

WIDTH, HEIGHT = 1280, 1120
"""Of the picture, in pixels: as wide as chats show one. Sizes of type are in points, of 2.8 pixels each."""

INK = "#1f2430"
_DPI = 200

# For characters that the first one lacks; tried in this order, as far as they are installed.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Source Han Sans",
    "IPAexGothic",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Arial Unicode MS",
)


class Paper:
    """A white sheet of `WIDTH` × `HEIGHT` pixels, from the lower left, as a matplotlib figure."""

    def __init__(self) -> None:
        from matplotlib import font_manager
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white")
        self.renderer: RendererBase = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        installed = {*font_manager.fontManager.get_font_names()}
        self._fonts = [name for name in _FONTS if name in installed]
        self._faces = [font_manager.get_font(font_manager.findfont(name)) for name in self._fonts]

    def write(self, x: float, y: float, text: str, size: float, *, room: float = WIDTH, **style: Any) -> Box:
        """Write a line whose left end is at `x` and whose middle is at `y`; return where it is.

        It is written smaller where it needs more than `room`. `style` is of matplotlib's `Text`.
        """
        from matplotlib.patheffects import withStroke
        from matplotlib.transforms import IdentityTransform

        written = self.figure.text(
            *(x, y, self.legible(text)),
            parse_math=False,  # dollars and underscores of a description are no formula
            fontfamily=self._fonts,
            path_effects=[withStroke(linewidth=3, foreground="white")],  # lines do not go through it
            transform=IdentityTransform(),
            **{"fontsize": size, "color": INK, "va": "center_baseline", **style},
        )
        box = written.get_window_extent(self.renderer)
        if box.width > room:
            written.set_fontsize(size * room / box.width)
            box = written.get_window_extent(self.renderer)
        return Box(box.x0, box.y0, box.x1, box.y1)

    def width(self, text: str, size: float, **style: Any) -> float:
        """Return how wide a line would be."""
        box = self.write(0, 0, text, size, room=float("inf"), **style)
        self.figure.texts[-1].remove()
        return box.right - box.left

    def legible(self, text: str) -> str:
        """Return text with `…` in the place of what no font has characters for; empty if that is all."""
        known = (c if any(face.get_char_index(ord(c)) for face in self._faces) else "…" for c in text)
        line = re.sub(r"…(?:\s*…)+", "…", "".join(known))
        return "" if line == "…" else line

    def rule(self, box: Box, colour: str) -> None:
        """Fill a box, such as a thin line."""
        from matplotlib.patches import Rectangle
        from matplotlib.transforms import IdentityTransform

        corner, width, height = (box.left, box.bottom), box.right - box.left, box.top - box.bottom
        self.figure.add_artist(
            Rectangle(corner, width, height, color=colour, linewidth=0, transform=IdentityTransform())
        )

    def png(self) -> bytes:
        """Return the sheet as it is now."""
        picture = io.BytesIO()
        self.figure.savefig(picture, format="png", metadata={"Software": None})
        return picture.getvalue()
