"""Rows and columns for a person: a table on a terminal, aligned text everywhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Grid:
    """Cells as text; `left` names the columns that are left-aligned, `styles` maps a row's number to a rich style,
    the last `footer` rows stand apart from the others."""

    columns: list[str]
    rows: list[list[str]]
    left: frozenset[str] = frozenset()
    footer: int = 0
    styles: dict[int, str] = field(default_factory=dict)


def print_lines(console: Console, lines: list[str]) -> None:
    """Print text as it is: names may hold brackets, and a log's lines are not wrapped."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_grid(console: Console, grid: Grid) -> None:
    """Print the grid, as a table where the console is a terminal."""
    if not console.is_terminal:
        print_lines(console, aligned(grid))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for name in grid.columns:
        table.add_column(Text(name), justify="left" if name in grid.left else "right", overflow="fold")
    for number, row in enumerate(grid.rows):
        if number == len(grid.rows) - grid.footer:
            table.add_section()
        table.add_row(*map(Text, row), style=grid.styles.get(number))
    console.print(table)


def aligned(grid: Grid) -> list[str]:
    """The grid as plain lines, columns two spaces apart."""
    table = [grid.columns, *grid.rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(grid.columns))]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if name in grid.left else cell.rjust(width)
            for cell, width, name in zip(row, widths, grid.columns, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
