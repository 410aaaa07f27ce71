"""Local features of registered pictures, the shell around them: seen once, kept beside the picture, read from then on.

In: a registered picture. Out: its features as a file. Most of the time of a verification would go into looking at the
same originals again.
"""

from __future__ import annotations

import structlog

from services.clients.candidates import METHOD, Picture
from services.clients.objects import Objects
from services.core.errors import Rejected
from services.core.intake.keys import features_key
from services.core.intake.lookup import features_of
from services.settings import IntakeSettings
from services.stream.pool import DecodePool

log = structlog.get_logger()
MEDIA_TYPE = "application/octet-stream"


class PictureFeatures:
    """Features of registered pictures. Every method raises `Unavailable` or `Broken`, and no other but `keep`."""

    def __init__(self, *, objects: Objects, pool: DecodePool, settings: IntakeSettings) -> None:
        self._objects = objects
        self._pool = pool
        self._settings = settings

    async def of(self, picture: Picture) -> bytes | None:
        """A picture's features, from the store or else from its bytes; None where it has gone or cannot be opened,
        which is no fault of whoever asks."""
        key = features_key(picture.image.sha256, METHOD)
        try:
            return await self._objects.get(key, self._settings.max_bytes)
        except Rejected:  # not looked at yet
            pass
        try:
            data = await self._objects.get(picture.image.object_key, self._settings.max_bytes)
        except Rejected as why:
            log.warning("original_missing", original_id=picture.original_id, why=str(why))
            return None
        try:
            return await self.keep(picture, data)
        except Rejected as why:
            log.warning("no_features", original_id=picture.original_id, code=why.code, why=str(why))
            return None

    async def there(self, picture: Picture) -> bool:
        """Whether the picture was looked at already."""
        return await self._objects.exists(features_key(picture.image.sha256, METHOD))

    async def keep(self, picture: Picture, data: bytes) -> bytes:
        """Looks at a picture, whose bytes are given, and keeps its features. Raises Rejected where it cannot be
        opened."""
        features = await self._pool.run(features_of, data, max_pixels=self._settings.max_pixels)
        await self._objects.put(features_key(picture.image.sha256, METHOD), features, MEDIA_TYPE)
        return features

    async def forget(self, picture: Picture) -> None:
        """Removes what was kept of a picture."""
        await self._objects.delete(features_key(picture.image.sha256, METHOD))
