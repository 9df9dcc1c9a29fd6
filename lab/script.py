"""Values in the script of a page."""

from __future__ import annotations

import json
from typing import Any


def script_json(value: Any) -> str:
    """JSON that can't end the script element it stands in, nor begin a comment there."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
