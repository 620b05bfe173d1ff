"""Help texts that break between any two characters: Chinese has no spaces to break at."""

from __future__ import annotations

from rich.text import Text
from typer.rich_utils import OptionHighlighter


class Folding(OptionHighlighter):
    """Marks options in a help text as typer does; what is too long is folded, never cut."""

    def __call__(self, text: str | Text) -> Text:
        """Return the text, marked."""
        marked = super().__call__(text)
        marked.overflow = "fold"
        return marked
