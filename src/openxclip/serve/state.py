"""What the routes share: `state_of(request)` gives it to them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from openxclip.common.files import user_path, without_nan
from openxclip.hub import SHIPPED_MODELS
from openxclip.serve.any_engine import AnyEngine
from openxclip.serve.collection import Collection
from openxclip.serve.media import Media
from openxclip.serve.security import Tokens
from openxclip.serve.settings import ServeSettings
from openxclip.serve.visits import VisitStore


@dataclass
class ServerState:
    """What the routes share.

    Attributes:
        settings: settings of the server.
        engine: runs tasks in the model's process.
        jobs: the list of jobs.
        visits: visits and uploads.
        collection: the videos below the roots.
        tokens: the server's token.
        media: previews and frames.
        stopping: set when the server begins to stop, so that streams of events end.
        model_info: what the loaded model says about itself; None before it was asked.
    """

    settings: ServeSettings
    engine: AnyEngine
    jobs: Any
    visits: VisitStore
    collection: Collection
    tokens: Tokens
    media: Media
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    model_info: dict[str, Any] | None = None

    @property
    def model_id(self) -> str:
        """The name by which clients know the model: for a folder only its last part."""
        name = self.settings.model
        is_folder = name not in SHIPPED_MODELS and user_path(name).is_dir()
        return Path(name).resolve().name if is_folder else name


def state_of(request: Request) -> ServerState:
    """Return the state of the server that answers a request."""
    state: ServerState = request.app.state.server
    return state


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a value as JSON, with null in place of NaN and infinity."""
    return JSONResponse(without_nan(value), status, headers=headers)
