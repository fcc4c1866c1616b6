"""What the hub is asked: a repository's list of files, and the files themselves.

A file is written as `<name>.<hash>.part` and takes its own name when it is whole: a session that was cut off goes on
where it stopped, and a partial file never passes for a whole one. `hf_hub_download` does not serve here: it begins a
file anew in each session, and its cache would hold a second copy.
"""

import errno
import glob
import io
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HFValidationError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    build_hf_headers,
    disable_progress_bars,
    validate_repo_id,
)
from huggingface_hub.utils.sha import sha_fileobj

from instantid.messages import machine_error

PARALLEL_FILES = 4

# The hub's client is built on requests, httpx or httpx2, by version; its own error inherits from that library's.
_TRANSFER_ERRORS = (OSError, *HfHubHTTPError.__bases__)


@dataclass(frozen=True)
class Hub:
    """Which hub, and who asks; None = huggingface_hub's own settings."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class HubFile:
    """One file of a repository, as it is now."""

    repo_id: str
    name: str  # inside the repository
    revision: str  # commit, so that all files of a repository belong together
    size: int  # bytes
    sha256: str | None  # of large files only
    blob: str  # the hub's name for this very content


@dataclass(frozen=True)
class Repository:
    """A repository as it is now."""

    repo_id: str
    files: dict[str, HubFile]  # by name
    licence: str | None  # as its card says


@dataclass(frozen=True)
class PlannedFile:
    """A file of a repository and where it goes."""

    source: HubFile
    path: Path
    elsewhere: Path | None = None  # where the same file may already lie on this machine

    @property
    def part(self) -> Path:
        """What has arrived of this very content so far."""
        return self.path.with_name(f"{self.path.name}.{self.source.blob[:12]}.part")

    @property
    def is_present(self) -> bool:
        return _size(self.path) == self.source.size

    @property
    def bytes_here(self) -> int:
        if self.is_present:
            return self.source.size
        return min(_size(self.part), self.source.size) if self.part.exists() else 0


@dataclass(frozen=True)
class DownloadProgress:
    """One report of a download; bytes that were there before it began count as done."""

    done_bytes: int
    total_bytes: int


OnDownload = Callable[[DownloadProgress], None]


def is_repo_id(text: str) -> bool:
    """Whether `text` can be the name of a repository, "owner/name"."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return text.count("/") == 1


def list_repository(repo_id: str, hub: Hub) -> Repository:
    """The files of a repository with their sizes; one small request.

    Raises: MachineError if it does not exist, may not be read, or cannot be reached.
    """
    with _explained(repo_id, "*"):
        info = HfApi(endpoint=hub.endpoint, token=hub.token).model_info(repo_id, files_metadata=True)
    files = {
        entry.rfilename: HubFile(
            repo_id, entry.rfilename, info.sha, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id
        )
        for entry in info.siblings or ()
    }
    card = info.card_data or {}
    licence = card.get("license_name") or card.get("license")
    return Repository(repo_id, files, str(licence) if licence else None)


def fetch_files(files: Sequence[PlannedFile], folder: Path, hub: Hub, report: OnDownload) -> None:
    """Fetch those of `files` that are not there, several at once, all of them inside `folder`.

    One that lies elsewhere on this machine, and is what the hub has, is copied instead.

    Reports a few times a second, on the calling thread; an exception in `report` stops the download.

    Raises: MachineError naming repository and file. Whatever arrived is kept for the next call.
    """
    disable_progress_bars("huggingface_hub.http_get")  # ours counts all files together
    stop = threading.Event()
    done = {file.path: file.bytes_here for file in files}
    total = sum(file.source.size for file in files)
    with _alone_in(folder), ThreadPoolExecutor(PARALLEL_FILES) as pool:
        running = {pool.submit(_fetch, file, hub, done, stop) for file in files if not file.is_present}
        try:
            while running:
                finished, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                report(DownloadProgress(sum(done.values()), total))
        except BaseException:
            stop.set()
            for future in running:
                future.cancel()
            raise


class _StoppedError(Exception):
    """Another file failed, or the caller gave up."""


class _CountedFile(io.BufferedWriter):
    """A file opened for appending that tells its size after each write."""

    def __init__(self, path: Path, count: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._count = count

    def write(self, chunk: bytes) -> int:
        written = super().write(chunk)
        self._count(self.tell())
        return written


def _fetch(file: PlannedFile, hub: Hub, done: dict[Path, int], stop: threading.Event) -> None:
    """Bring one file whole to its place, going on from its part if there is one."""
    source, path, part = file.source, file.path, file.part

    def count(size: int) -> None:
        done[path] = size
        if stop.is_set():
            raise _StoppedError

    url = hf_hub_url(source.repo_id, source.name, revision=source.revision, endpoint=hub.endpoint)
    headers = build_hf_headers(token=hub.token) | {"Accept-Encoding": "identity"}  # so that sizes are the file's own
    with _explained(source.repo_id, source.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        for older in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
            if older != part:
                older.unlink()
        part.touch()
        is_resumed = _size(part) > 0
        if twin := _twin(file):
            with twin.open("rb") as whole, _CountedFile(part, count) as stream:
                whole.seek(stream.tell())
                shutil.copyfileobj(whole, stream)
        while (had := _size(part)) < source.size:
            try:
                with _CountedFile(part, count) as stream:
                    http_get(url, stream, resume_size=had, headers=headers, expected_size=source.size)
            except _TRANSFER_ERRORS:
                if _size(part) <= had:  # as long as bytes arrive it is worth another try
                    raise
        # What was sewn together over two sessions is trusted only if it is what the hub has.
        if _size(part) != source.size or (is_resumed and source.sha256 and _sha256(part) != source.sha256):
            part.unlink()
            raise machine_error("weights.corrupted", repo=source.repo_id, file=source.name)
        part.replace(path)


def _twin(file: PlannedFile) -> Path | None:
    """The same content elsewhere on this machine, if there is a copy that can be read."""
    source, twin = file.source, file.elsewhere
    with suppress(OSError):
        if twin and _size(twin) == source.size and (source.sha256 is None or _sha256(twin) == source.sha256):
            return twin
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return sha_fileobj(stream).hex()


def _size(path: Path) -> int:
    """Bytes of a file; -1 if there is none."""
    return path.stat().st_size if path.is_file() else -1


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second download out of the same folder."""
    with _explained("—", str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".download.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise machine_error("weights.busy", folder=folder) from error
    except (NotImplementedError, OSError):
        pass  # some network drives know no locks
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _explained(repo: str, file: str) -> Iterator[None]:
    """Turn what the hub's client and the disk raise into one clear error."""
    try:
        yield
    except GatedRepoError as error:
        raise machine_error("weights.gated", repo=repo, file=file) from error
    except RepositoryNotFoundError as error:
        raise machine_error("weights.repo_not_found", repo=repo) from error
    except EntryNotFoundError as error:
        raise machine_error("weights.file_not_found", repo=repo, file=file) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "?"
        if status == 401:  # the hub does not tell strangers which private repositories exist
            raise machine_error("weights.repo_not_found", repo=repo) from error
        if status == 403:
            raise machine_error("weights.gated", repo=repo, file=file) from error
        raise machine_error("weights.server", repo=repo, file=file, status=status) from error
    except _TRANSFER_ERRORS as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise machine_error("weights.disk_full", repo=repo, file=file) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise machine_error("weights.cannot_write", file=file, reason=error) from error
        raise machine_error("weights.network", repo=repo, file=file, reason=type(error).__name__) from error
