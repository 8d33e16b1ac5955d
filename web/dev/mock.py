"""A server that answers as `openxclip serve` does, without a model: to work on the page and its states.

    python web/dev/mock.py --videos samples [--port 8000] [--token TOKEN] [--slow SECONDS] [--no-index]

Serves the built page, and invents scores from the names of labels and videos. With `npm run dev` in web/, Vite sends
requests of the API here.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import math
import mimetypes
import re
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av

STATIC = Path(__file__).resolve().parents[2] / "src" / "openxclip" / "serve" / "static"
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
LABELS: list[dict[str, Any]] = []
JOBS: dict[str, dict[str, Any]] = {}
UPLOADS: dict[str, tuple[str, bytes]] = {}


def noise(*parts: object) -> float:
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@functools.lru_cache
def duration_of(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.duration or 0) / 1e6


@functools.lru_cache(maxsize=2000)
def frame_of(path: Path, seconds: float, width: int) -> bytes:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(seconds / stream.time_base), stream=stream)
        image = None
        for frame in container.decode(stream):
            image = frame.to_image()
            if frame.time is not None and frame.time >= seconds - 0.05:
                break
    assert image is not None
    image.thumbnail((width, width))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


def classification(name: str, labels: list[str], top: int) -> dict[str, Any]:
    weights = [math.exp(6 * noise(name, label) + 5 * name_fits(name, label)) for label in labels]
    total = sum(weights)
    rows = sorted(
        ({"label": label, "probability": w / total, "score": min(0.99, 0.2 + 0.7 * w / total)} for label, w in zip(labels, weights)),
        key=lambda row: -row["probability"],
    )
    return {"path": name, "outcome": rows[0]["label"], "labels": rows[:top], "none_of_these": 1 - rows[0]["score"], "times": []}


def name_fits(name: str, label: str) -> bool:
    return label.replace(" ", "_") in name or label.split()[-1] in name


def timeline(name: str, duration: float, labels: list[str]) -> dict[str, Any]:
    window, stride = 2.0, 0.5
    starts = [i * stride for i in range(max(1, int((duration - window) / stride) + 1))]
    segments, rows, scores = [], [], {}
    for label in labels:
        centre, width = noise(name, label, "c") * duration, 1 + 3 * noise(name, label, "w")
        height = 0.95 if noise(name, label, "h") > 0.3 else 0.12
        values = [max(0.003, height * math.exp(-(((s + window / 2 - centre) / width) ** 2)) + 0.02 * noise(label, s)) for s in starts]
        scores[label] = values
        best = max(values)
        at = values.index(best)
        rows.append({"label": label, "threshold": 0.5, "best": best, "best_time": min(duration, starts[at] + window / 2)})
        if best >= 0.5:
            start, end = max(0, centre - width), min(duration, centre + width)
            segments.append({"label": label, "start": start, "end": end, "score": best, "peak": min(duration - 0.1, starts[at] + window / 2)})
    segments.sort(key=lambda s: s["start"])
    return {"path": name, "duration": duration, "fps": 24.0, "size": [256, 256], "window": window, "stride": stride, "windows": len(starts),
            "labels": rows, "segments": segments, "notes": [], "scores": {"start": starts, "end": [s + window for s in starts], "labels": scores}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options: argparse.Namespace

    def log_message(self, *_: object) -> None:
        pass

    # --- answers ---

    def json(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.bytes(json.dumps(body).encode(), "application/json", status, headers)

    def error(self, status: int, code: str, message: str, hint: str | None = None) -> None:
        headers = {"Retry-After": "2"} if status == 429 else None
        self.json({"error": {"code": code, "message": message, "hint": hint}}, status, headers)

    def bytes(self, data: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, name: str, data: object) -> None:
        self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")

    # --- videos ---

    def videos(self) -> list[Path]:
        return sorted(path for path in self.options.videos.rglob("*") if path.suffix in {".mp4", ".avi", ".mkv"})

    def path_of(self, kind: str, ident: str) -> Path:
        if kind == "uploads":
            return self.options.scratch / ident
        return self.options.videos / ident.split("/", 1)[1]

    def id_of(self, path: Path) -> str:
        return f"{self.options.videos.name}/{path.relative_to(self.options.videos)}"

    def stream(self, path: Path) -> None:
        data = path.read_bytes()
        match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return self.bytes(data, "video/mp4", headers={"Accept-Ranges": "bytes"})
        start, end = int(match[1]), int(match[2] or len(data) - 1)
        part = data[start : end + 1]
        self.bytes(part, "video/mp4", 206, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}", "Accept-Ranges": "bytes"})

    # --- routes ---

    def allowed(self) -> bool:
        return self.options.token is None or f"openxclip_session={self.options.token}" in self.headers.get("Cookie", "")

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        path = urllib.parse.unquote(url.path)
        if path == "/v1/session":
            return self.json({"required": self.options.token is not None, "authenticated": self.allowed()})
        if path == "/readyz":
            return self.json({"status": "ready", "model": "mini", "queue": 0, "running": 0})
        if path.startswith("/v1/") and not self.allowed():
            return self.error(401, "token_missing", "This server needs a token.")
        if path == "/v1/models":
            return self.json({"object": "list", "data": [{"id": "mini", "object": "model", "created": 0, "owned_by": "openxclip", "precision": "fp32", "device": "cpu", "state": "ready"}]})
        if path == "/v1/index":
            if self.options.no_index:
                return self.error(404, "no_index", "There is no index yet.", "Make one in the library.")
            return self.json({"videos": len(self.videos()), "windows": 4211, "model": "mini", "window": 2.0, "stride": 1.0})
        if path == "/v1/videos":
            words = query.get("q", [""])[0]
            found = [each for each in self.videos() if words in each.name]
            offset, limit = int(query.get("offset", ["0"])[0]), int(query.get("limit", ["50"])[0])
            rows = [{"id": self.id_of(p), "name": p.name, "root": self.options.videos.name, "size": p.stat().st_size, "modified": 0} for p in found[offset : offset + limit]]
            more = offset + limit
            return self.json({"videos": rows, "total": len(found), "next": more if more < len(found) else None, "roots": ["collection", self.options.videos.name]})
        if match := re.match(r"/v1/(videos|uploads)/(.+)/(stream|frame|info)$", path):
            file = self.path_of(match[1], match[2])
            if match[3] == "stream":
                return self.stream(file)
            if match[3] == "info":
                return self.json({"path": file.name, "plays": True, "duration": duration_of(file)})
            seconds, width = float(query["t"][0]), int(query["width"][0])
            return self.bytes(frame_of(file, seconds, width), "image/jpeg", headers={"Cache-Control": "max-age=600"})
        if path == "/v1/jobs":
            return self.json({"jobs": list(JOBS.values())})
        if match := re.match(r"/v1/jobs/(\w+)/events$", path):
            self.events()
            while JOBS[match[1]]["state"] == "running":
                self.event("progress", JOBS[match[1]]["progress"])
                time.sleep(0.3)
            return self.event("state", {"state": JOBS[match[1]]["state"]})
        if match := re.match(r"/v1/jobs/(\w+)$", path):
            return self.json(JOBS[match[1]])
        if path == "/v1/labels":
            return self.json({"labels": LABELS})
        if path == "/v1/labels/proposals":
            taken = {row["path"] for row in LABELS}
            names = query.get("labels", ["?"])
            rows = [{"video": self.id_of(p), "path": str(p), "start": 0.0, "end": min(2.0, duration_of(p)), "label": max(names, key=lambda n: noise(p.name, n) + name_fits(p.name, n)), "probability": 0.4 + 0.5 * noise(p.name)}
                    for p in self.videos() if str(p) not in taken]
            return self.json({"proposals": rows[:12], "order": "typical", "notes": []})
        file = STATIC / path.lstrip("/") if path != "/" else STATIC / "index.html"
        if file.is_file():
            return self.bytes(file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream")
        return self.error(404, "not_found", f"There is no {path}.")

    def do_POST(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path == "/v1/uploads":
            data = self.rfile.read(int(self.headers["Content-Length"]))
            name = query["name"][0]
            ident = hashlib.sha256(data).hexdigest()[:12]
            path = self.options.scratch / ident
            path.write_bytes(data)
            try:
                duration = duration_of(path)
            except Exception:
                return self.error(422, "video_unreadable", f"{name} can't be read: it is no video that FFmpeg knows.", "Check that it plays elsewhere, or convert it.")
            return self.json({"id": ident, "name": name, "size": len(data), "duration": duration, "expires": 3600})
        body = self.body()
        if url.path == "/v1/visits/end":
            return self.json(None)
        if url.path == "/v1/session":
            if body["token"] != self.options.token:
                return self.error(401, "token_wrong", "The token is wrong.", "Ask whoever started the server.")
            return self.json({"required": True, "authenticated": True}, headers={"Set-Cookie": f"openxclip_session={self.options.token}; HttpOnly; SameSite=Strict"})
        if not self.allowed():
            return self.error(401, "token_missing", "This server needs a token.")
        if url.path in ("/v1/classify", "/v1/timeline"):
            kind, ident = ("uploads", body["upload"]) if "upload" in body else ("videos", body["video"])
            file = self.path_of(kind, ident)
            time.sleep(self.options.slow)
            if url.path == "/v1/classify":
                return self.json({"model": "mini", "result": classification(file.name, body["labels"], body.get("top", 5))})
            duration = duration_of(file)
            self.events()
            for step in range(11):
                self.event("progress", {"done": duration * step / 10, "duration": duration})
                time.sleep(self.options.slow / 2)
            return self.event("result", {"model": "mini", "result": timeline(file.name, duration, body["labels"])})
        if url.path == "/v1/search":
            if self.options.no_index:
                return self.error(404, "no_index", "There is no index yet.", "Make one in the library.")
            time.sleep(self.options.slow)
            text = body.get("query") or json.dumps(body["moment"])
            rows = []
            for p in self.videos():
                score = max(0.01, min(0.97, noise(text, p.name) * 0.9 + 0.5 * name_fits(p.name, text)))
                end = min(2.0, duration_of(p))
                ident = self.id_of(p)
                rows.append({"id": f"{ident}@0", "video": ident, "path": str(p), "start": 0.0, "end": end, "best_start": 0.0, "best_end": end, "windows": 1, "duration": end,
                             "score": score if "query" in body else None, "similarity": score, "reranked": False, "thumbnail": f"/v1/videos/{ident}/frame?t={end / 2}&width=320", "preview": f"/v1/videos/{ident}/stream"})
            return self.json({"hits": sorted(rows, key=lambda r: -r["similarity"])[: body["k"]]})
        if url.path in ("/v1/index", "/v1/labels/train"):
            return self.json(self.job("index" if url.path == "/v1/index" else "train"), 202)
        if url.path == "/v1/labels/retrain":
            time.sleep(1)
            return self.json({"before": 0.42, "after": 0.81, "held_out": len(LABELS), "seconds": 1.2, "verdict": ""})
        return self.error(404, "not_found", f"There is no {url.path}.")

    def do_PUT(self) -> None:
        LABELS.append(self.body())
        self.json(LABELS[-1])

    def do_DELETE(self) -> None:
        if match := re.match(r"/v1/jobs/(\w+)$", self.path):
            JOBS[match[1]]["state"] = "cancelled"
            return self.json(JOBS[match[1]])
        body = self.body()
        LABELS[:] = [row for row in LABELS if row["path"] != body["path"]]
        return self.json({"labels": LABELS})

    def job(self, kind: str) -> dict[str, Any]:
        ident = f"job{len(JOBS) + 1}"
        now = time.time()
        JOBS[ident] = {"id": ident, "kind": kind, "state": "running", "created": now, "started": now, "finished": None, "progress": {"done": 0, "total": 20}, "result": None, "error": None}

        def work() -> None:
            for done in range(21):
                if JOBS[ident]["state"] != "running":
                    return
                JOBS[ident]["progress"] = {"done": done, "total": 20}
                time.sleep(0.4)
            JOBS[ident].update(state="done", finished=time.time())

        threading.Thread(target=work, daemon=True).start()
        return JOBS[ident]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True, help="existing folder for uploads")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--token")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--no-index", action="store_true")
    Handler.options = parser.parse_args()
    Handler.options.videos = Handler.options.videos.resolve()
    ThreadingHTTPServer(("127.0.0.1", Handler.options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
