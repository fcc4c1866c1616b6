"""A hub on this machine: serves folders as repositories to the real huggingface_hub client.

It speaks what a download needs: the list of a repository's files with sizes and hashes, the files with ranges, and the
failures a real hub has.
"""

import contextlib
import hashlib
import io
import json
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
from safetensors.numpy import save

COMMIT = "c0ffee" + "0" * 34
LARGE = (".safetensors", ".bin", ".onnx", ".ckpt")  # kept by git-lfs: their SHA-256 is listed


BASE = "wangqixun/YamerMIX_v8"
REALISTIC = "SG161222/RealVisXL_V5.0"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
IDENTITY = "InstantX/InstantID"
FACES = "DIAMONIK7777/antelopev2"


def tensors(count=8):
    """A real .safetensors file with one tensor of `count` float32."""
    return save({"weight": np.arange(count, dtype=np.float32)})


def checkpoint():
    """What torch.save writes, seen from outside: a zip archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("archive/data.pkl", b"weights")
    return archive.getvalue()


def base_files(variants=("",)):
    """A diffusers SDXL repository, with weights named `""` (plain), `".fp16"` or both."""
    files = {
        "model_index.json": json.dumps({"_class_name": "StableDiffusionXLPipeline"}).encode(),
        "scheduler/scheduler_config.json": b"{}",
    }
    for tokenizer in ("tokenizer", "tokenizer_2"):
        files |= {
            f"{tokenizer}/vocab.json": b"{}",
            f"{tokenizer}/merges.txt": b"#version",
            f"{tokenizer}/tokenizer_config.json": b"{}",
        }
    for model in ("text_encoder", "text_encoder_2", "unet", "vae"):
        stem = "model" if model.startswith("text") else "diffusion_pytorch_model"
        files[f"{model}/config.json"] = b"{}"
        files |= {f"{model}/{stem}{variant}.safetensors": tensors() for variant in variants}
    return files


def identity_files():
    return {
        "ControlNetModel/config.json": b"{}",
        "ControlNetModel/diffusion_pytorch_model.safetensors": tensors(),
        "ip-adapter.bin": checkpoint(),
    }


def face_files():
    return {"scrfd_10g_bnkps.onnx": b"\x08\x07 detector", "glintr100.onnx": b"\x08\x07 recogniser"}


def published():
    """The repositories of a default download, each with further files that nobody needs."""
    unneeded = [
        "unet/diffusion_pytorch_model.bin",
        "unet/openvino_model.xml",
        "vae_1_0/diffusion_pytorch_model.safetensors",
    ]
    unneeded += ["YamerMIX_v8.safetensors", "unet/model.onnx", "text_encoder/flax_model.msgpack", "README.md"]
    base = base_files(("", ".fp16")) | dict.fromkeys(unneeded, b"unneeded")
    return {
        BASE: base,
        IDENTITY: identity_files() | {"README.md": b"unneeded", "examples/0.jpg": b"unneeded"},
        FACES: face_files() | {"genderage.onnx": b"unneeded"},
    }


def write_files(folder, files):
    """Write {name: content} under `folder`; returns it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_bundle(folder, variants=("",)):
    """A whole bundle of tiny files."""
    write_files(folder / "base", base_files(variants))
    write_files(folder, identity_files())
    write_files(folder / "antelopev2", face_files())
    return folder


class FakeHub:
    """Use as a context manager; `endpoint` is what the client is given.

    `repos` maps "owner/name" to {file name: content}; `licences` the same names to the card's licence.
    """

    def __init__(self, repos, licences=None):
        self.repos = repos
        self.licences = licences or {}
        self.requests = []  # (file name or "", Range header or "") of each request, in order
        self.tokens = set()  # Authorization headers seen
        self.cuts = {}  # file name -> [bytes after which the connection is closed, one per request]
        self.pauses = {}  # file name -> seconds before each further thousand bytes
        self.failures = {}  # "owner/name" or file name -> (status, X-Error-Code)
        answers = {
            "protocol_version": "HTTP/1.1",
            "do_GET": lambda request: self._answer(request),
            "log_message": lambda *_: None,
        }
        handler = type("Handler", (BaseHTTPRequestHandler,), answers)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        # The default half second between looks at the shutdown flag would be most of a test's time.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @property
    def files_asked(self):
        return [name for name, _ in self.requests if name]

    def _answer(self, request):
        parts = unquote(urlsplit(request.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repo_id, name = "/".join(parts[2:4]), ""
        else:
            repo_id, name = "/".join(parts[:2]), "/".join(parts[4:])  # owner/name/resolve/<commit>/<file>
        self.requests.append((name, request.headers.get("Range", "")))
        self.tokens.add(request.headers.get("Authorization"))
        failure = self.failures.get(name or repo_id)
        if failure:
            self._send(request, failure[0], b"", {"X-Error-Code": failure[1]})
        elif repo_id not in self.repos:
            self._send(request, 401, b"", {"X-Error-Code": "RepoNotFound"})
        elif not name:
            self._send(request, 200, json.dumps(self._listing(repo_id)).encode(), {"Content-Type": "application/json"})
        elif name not in self.repos[repo_id]:
            self._send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            self._send_file(request, name, self.repos[repo_id][name])

    def _listing(self, repo_id):
        files = []
        for name, content in self.repos[repo_id].items():
            digest = hashlib.sha256(content).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": digest[:40]}
            if name.endswith(LARGE):
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            files.append(entry)
        licence = self.licences.get(repo_id)
        return {
            "id": repo_id,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "downloads": 0,
            "siblings": files,
            "cardData": {"license": licence} if licence else None,
        }

    def _send_file(self, request, name, content):
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        cuts = self.cuts.get(name)
        sent = cuts.pop(0) if cuts else len(content)
        self._send(request, 206 if start else 200, content[start:], headers, sent, self.pauses.get(name, 0))

    def _send(self, request, status, body, headers, sent=None, pause=0):
        """Promise the whole of `body`, send its first `sent` bytes, by thousands if there is a `pause` between them."""
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        step = 1000 if pause else max(len(body), 1)
        with contextlib.suppress(ConnectionError):  # the client may give up
            for start in range(0, len(body[:sent]), step):
                request.wfile.write(body[:sent][start : start + step])
                time.sleep(pause)
        if sent is not None and sent < len(body):
            request.close_connection = True
