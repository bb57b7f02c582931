"""Lookalikes: names that a reader, or a model, takes for each other. Pure.

In the manner of the skeletons of Unicode (UTS #39 §4), with the letters that matter for names of tools: Latin, Greek, Cyrillic.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_ALIKE: Final = str.maketrans(
    "авекмнорстухіјѕԁԛԝґһӏαβγεικνορτυχωᴀʙᴄᴅᴇɢʜɪᴊᴋʟᴍɴᴏᴘᴛᴜᴠᴡʏᴢıȷ01",  # noqa: RUF001  # that is the point
    "abekmhopctyxijsdqwrhlabyeikvoptuxwabcdeghijklmnoptuvwyzijol",
)
"""What looks like a Latin letter, in lower case; and the two digits that look like letters."""
_SEPARATORS: Final = str.maketrans(dict.fromkeys(" -./:", "_"))
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"})
"""Unicode categories that show nothing: controls, direction marks, joiners, what is not assigned, halves of pairs."""


def skeleton(name: str) -> str:
    """What two names have in common that look alike."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    seen = "".join(sign for sign in plain if unicodedata.category(sign) not in {*_INVISIBLE, "Mn", "Me"})
    return seen.casefold().translate(_ALIKE).translate(_SEPARATORS)


def has_invisible(text: str) -> bool:
    """Whether something in it does not show."""
    return any(unicodedata.category(sign) in _INVISIBLE for sign in text)
