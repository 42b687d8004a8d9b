"""Many rows of text to move through: only those that are seen are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip


class Column(NamedTuple):
    """A heading; width in cells, 0 for what is left of the line; numbers stand right."""

    name: str
    width: int
    right: bool = False


class Row(NamedTuple):
    """What a row stands for, its cells, and the rich style of the line."""

    key: str
    cells: Sequence[str]
    style: str = ""


class Lines(ScrollView, can_focus=True):
    """A table with a heading that stays, a cursor, and marks."""

    DEFAULT_CSS = "Lines { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move(-1000000000)", show=False),
        Binding("end,G", "move(1000000000)", show=False),
        Binding("enter", "open", "Open"),
    ]

    class Opened(Message):
        """Somebody wants to see what a row stands for."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = columns
        self.rows: Sequence[Row] = []
        self.marked: set[str] = set()
        self.cursor = 0

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.rows else None

    def show(self, rows: Sequence[Row]) -> None:
        """Other rows; the cursor stays on what it was on."""
        before = self.current
        self.rows = rows
        place = {row.key: number for number, row in enumerate(rows)}
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        if before is not None:
            self.cursor = place.get(before.key, self.cursor)
        self.virtual_size = Size(0, len(rows) + 1)
        self._see()

    def toggle_mark(self) -> None:
        """Mark the row under the cursor, or take its mark away."""
        if self.current is not None:
            self.marked ^= {self.current.key}
            self.action_move(1)

    def action_move(self, by: int) -> None:
        self.cursor = max(0, min(self.cursor + by, len(self.rows) - 1))
        self._see()

    def action_page(self, by: int) -> None:
        self.action_move(by * max(self.size.height - 2, 1))

    def action_open(self) -> None:
        if self.current is not None:
            self.post_message(self.Opened(self.current.key))

    def on_click(self, event: Click) -> None:
        number = event.y - 1 + self.scroll_offset.y
        if event.y and number < len(self.rows):
            again = number == self.cursor
            self.action_move(number - self.cursor)
            if again:
                self.action_open()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        rest = width - 2 - sum(column.width + 1 for column in self.columns)
        widths = [column.width or max(rest, 8) for column in self.columns]
        if y == 0:
            text, style = self._text([column.name for column in self.columns], widths), Style(bold=True, dim=True)
            return Strip([Segment(set_cell_size("  " + text, width), style)])
        number = y - 1 + self.scroll_offset.y
        if number >= len(self.rows):
            return Strip.blank(width)
        row = self.rows[number]
        style = Style.parse(row.style)
        if number == self.cursor:
            style += Style(reverse=True)
        text = ("* " if row.key in self.marked else "  ") + self._text(row.cells, widths)
        return Strip([Segment(set_cell_size(text, width), style)])

    def _text(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        parts = []
        for cell, width, column in zip(cells, widths, self.columns, strict=True):
            plain = cell.replace("\n", " ")
            if len(plain) > width and not column.width:  # the ends of names differ more than their middles
                plain = plain[: width // 2 - 1] + "…" + plain[len(plain) - (width - width // 2) :]
            parts.append(plain[:width].rjust(width) if column.right else set_cell_size(plain, width))
        return " ".join(parts)

    def _see(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False, force=True)
        self.refresh()
