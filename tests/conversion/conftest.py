"""Make the reference models of tests/model and tests/checkpoints importable."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path += [str(TESTS / name) for name in ("model", "checkpoints") if str(TESTS / name) not in sys.path]
