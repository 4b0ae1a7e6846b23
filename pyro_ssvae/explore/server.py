"""How the page is served: on 127.0.0.1 alone, without files, until Ctrl-C."""

from __future__ import annotations

import contextlib
import socket
import threading
import webbrowser

import torch
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import InputError
from . import html
from .offline import gr

HOST = "127.0.0.1"
ROUTES = ("file", "upload", "proxy", "stream", "custom_component", "run-history", "runs", "dev", "deep_link")
CLOSED = tuple(f"/gradio_api/{route}" for route in ROUTES)
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)


def listen(port: int | None) -> socket.socket:
    """Return a socket on 127.0.0.1 at the port, by default at the first free one from 7860.

    :raises InputError: a port that is taken.
    """
    for number in [port] if port is not None else range(7860, 7960):
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, number))
        except OSError as error:
            found.close()
            reason = error.strerror
            continue
        found.listen(64)
        return found
    taken = f"--port {port}" if port is not None else "--port: 7860 to 7959"
    raise InputError(f"{taken}: cannot be listened on ({reason}); another port is needed")


class WithoutFiles:
    """An ASGI application that lets no request through to gradio's routes that take or give files: the page needs none.

    It also tells browsers to fetch nothing from elsewhere.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(CLOSED):
            await PlainTextResponse("not here", 404)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, guarded)


def make_app(page: gr.Blocks) -> FastAPI:
    """Return the page as an application that serves no files and answers to this machine's own names alone."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(WithoutFiles)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    plain = gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    page.queue(default_concurrency_limit=4)
    return gr.mount_gradio_app(
        app, page, "/", server_name=HOST, footer_links=[], allowed_paths=[], show_error=False,
        max_file_size=1, ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=plain,
        css=html.STYLE,
    )  # fmt: skip


def serve(page: gr.Blocks, at: socket.socket, *, browser: bool = True) -> None:
    """Serve the page until Ctrl-C."""
    torch.set_num_threads(1)  # one point at a time gains nothing from a second one, and waits for it
    config = uvicorn.Config(make_app(page), log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    url = f"http://{HOST}:{at.getsockname()[1]}/"
    print(f"page: {url}\nCtrl-C closes it", flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[at])
    print("closed")
