"""Help of a program with many commands: sections in place of one list."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class Sections(TyperGroup):
    """Group of commands that lists them under the titles given as `rich_help_panel`."""

    # Any: typer's own types, which it does not export
    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """Write the commands, section by section, in the order in which they were added."""
        sections: dict[str, list[tuple[str, str]]] = {}
        longest = max(map(len, self.commands), default=0)
        for name, command in self.commands.items():
            # Room for the indentation and for two columns.
            text = command.get_short_help_str(formatter.width - 6 - longest)
            title = getattr(command, "rich_help_panel", None)
            sections.setdefault(title if isinstance(title, str) else "Commands", []).append((name.ljust(longest), text))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)
