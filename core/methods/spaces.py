"""Which methods run in spaces that are not flat."""

from core.errors import UserError
from core.flow.space import Space
from core.methods.plugin import Plugin
from core.methods.registry import plugins


def check_space(plugin: Plugin | type[Plugin], space: Space) -> None:
    """Raises `UserError` where the method reads what only flat space has."""
    if not (space.flat or plugin.spaces):
        able = ", ".join(name for name, other in plugins().items() if other.spaces)
        raise UserError(
            f"{plugin.card.name} works in flat space alone, not on {space.name}; use --plugin with "
            f"one of {able}"
        )
