"""The tests of conversion use the reference models of two other rooms."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path += [str(TESTS / name) for name in ("model", "checkpoints") if str(TESTS / name) not in sys.path]
