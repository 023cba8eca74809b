"""An embedding model, served as OpenAI does.

``python -m mlflow_fireworks.emulator.answers.embedder FOLDER PORT [--trust-remote-code]``
"""

from __future__ import annotations

import importlib
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


def embed(model: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request.

    Args:
        model: A `SentenceTransformer`.
        request: `input` (a text or a list of texts) and perhaps `dimensions`.
    """
    given = request.get("input", "")
    texts = given if isinstance(given, list) else [given]
    vectors = model.encode([str(text) for text in texts], show_progress_bar=False)
    size = request.get("dimensions") or vectors.shape[1]
    data = [
        {"object": "embedding", "index": index, "embedding": [float(number) for number in vector[:size]]}
        for index, vector in enumerate(vectors)
    ]
    count = sum(len(model.tokenizer(str(text))["input_ids"]) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "model": request.get("model", ""), "data": data, "usage": usage}


def main(folder: str, port: int, *, trusted: bool = False) -> None:
    """Load the model, then serve until stopped."""
    # Not imported at the top: it takes seconds, and only this process has and needs it.
    model = importlib.import_module("sentence_transformers").SentenceTransformer(
        folder, device="cpu", trust_remote_code=trusted
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send({"status": "ok"})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self._send(embed(model, request))

        def _send(self, answer: dict[str, Any]) -> None:
            raw = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), trusted="--trust-remote-code" in sys.argv)
