"""The object store: images and masks by key.

In: a key and bytes. Out: bytes, `Rejected` where the key names nothing usable, `Unavailable` where the store is away. A
folder and S3 behave alike (the same contract suite runs on both); `gs://` and `az://` go the same way through obstore.

obstore's blocking calls run in threads of our own. Its asyncio calls come back on the library's threads, and a process
that ends soon after one may abort (6 of 24 short runs with obstore 0.12; none of 60 with the blocking calls). The
number of threads is the limit of calls at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store, from_url

from services.core.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CALLS_AT_ONCE = 16
MAX_KEY_BYTES = 1024  # S3's limit

T = TypeVar("T")


class Objects:
    """An object store: a folder (`file:///folder`), `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.

    Every method raises Unavailable("objects") when the store does not answer within `timeout_s`, refuses our
    credentials, or is not there at all (no bucket, no folder). Nothing is retried here.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 20.0,
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        allow_http: bool = False,
    ) -> None:
        """Connects to nothing yet; a folder is made where it is missing. Without a key S3 uses the surroundings'
        identity. Raises ValueError for a URL that is none of the kinds above.
        """
        self._url = url
        self._timeout_s = timeout_s
        self._folder: Path | None = None
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="objects")
        scheme = urlsplit(url).scheme
        client: ClientConfig = {
            "timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=min(5.0, timeout_s)),
            "allow_http": allow_http,
        }
        retry: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=timeout_s)}
        self._store: ObjectStore
        if scheme == "file":
            self._folder = Path(url2pathname(urlsplit(url).path))
            self._store = LocalStore(self._folder, mkdir=True)
        elif scheme == "s3":
            given = {
                "endpoint": endpoint,
                "region": region,
                "access_key_id": access_key_id,
                "secret_access_key": secret_access_key,
            }
            config: Any = {name: value for name, value in given.items() if value is not None}
            self._store = S3Store.from_url(url, client_options=client, retry_config=retry, **config)
        elif scheme in ("gs", "az"):
            self._store = from_url(url, client_options=client, retry_config=retry)
        else:
            raise ValueError(f"an object store is file://, s3://, gs:// or az://, not {url!r}")

    async def get(self, key: str, max_bytes: int) -> bytes:
        """The object's bytes. Raises Rejected: object_missing, or too_large before anything above the limit is read."""
        return await self._call("read", key, lambda path: self._read(path, max_bytes))

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Writes the object whole or not at all; writing the same again changes nothing. A folder keeps no content
        types. Raises Rejected("object_missing") for a key that no object can have.
        """
        attributes = None if self._folder else {"Content-Type": content_type}

        def write(path: str) -> None:
            obstore.put(self._store, path, data, attributes=attributes, use_multipart=False)

        await self._call("write", key, write)

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            await self._call("look for", key, lambda path: obstore.head(self._store, path))
        except Rejected:
            return False
        return True

    async def delete(self, key: str) -> None:
        """Removes the object; one that is not there is removed already."""
        with suppress(Rejected):
            await self._call("remove", key, lambda path: obstore.delete(self._store, path))

    def close(self) -> None:
        """Lets the threads go. A call that is under way ends by its own deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, path: str, max_bytes: int) -> bytes:
        found = obstore.get(self._store, path)
        size = found.meta["size"]
        if size > max_bytes:
            raise Rejected("too_large", f"object {path!r} has {size} bytes, the limit is {max_bytes}")
        return bytes(found.bytes())

    async def _call(self, verb: str, key: str, call: Callable[[str], T]) -> T:
        """Runs a blocking call in a thread, with the deadline and every error in our words."""
        path = _checked(key)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await loop.run_in_executor(self._threads, call, path)
        except TimeoutError as error:
            text = f"could not {verb} object {key!r} within {self._timeout_s:g} s in {self._url}"
            raise Unavailable("objects", text) from error
        except (FileNotFoundError, NotFoundError) as error:
            if self._store_is_missing(error):
                raise Unavailable("objects", f"there is no object store at {self._url}: create it") from error
            raise Rejected("object_missing", f"there is no object {key!r}") from error
        except (BaseError, OSError, ValueError) as error:
            text = f"could not {verb} object {key!r} in {self._url}: {_first_line(error)}"
            raise Unavailable("objects", text) from error

    def _store_is_missing(self, error: Exception) -> bool:
        """Whether the folder or bucket itself is gone: then it is we who are wrong, not the key."""
        return "NoSuchBucket" in str(error) or (self._folder is not None and not self._folder.is_dir())


def _checked(key: str) -> str:
    """The key, if an object can have it. Keys come from uploads: nothing may climb out of the store."""
    segments = key.split("/")
    if (
        not key.isprintable()
        or len(key.encode(errors="replace")) > MAX_KEY_BYTES
        or "\\" in key
        or any(segment.strip() in ("", ".", "..") for segment in segments)
    ):
        raise Rejected("object_missing", f"no object can have the key {key[:200]!r}: use names separated by single /")
    return key


def _first_line(error: Exception) -> str:
    """The message without obstore's debugging appendix."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
