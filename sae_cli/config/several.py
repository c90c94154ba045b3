"""Settings that are one text or a list of several, as in `run=[a,b]`.

OmegaConf has no type for that and takes anything; schemas refuse what is neither when they are made.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    OneOrSeveral: TypeAlias = str | list[str]
    NoneOrSeveral: TypeAlias = str | list[str] | None
else:
    OneOrSeveral = Any
    NoneOrSeveral = Any
