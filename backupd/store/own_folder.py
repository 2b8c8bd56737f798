"""A folder of this machine that is used as a store: what its disk refuses is not blamed on a store far away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from backupd.errors import ObjectExistsError, ObjectMissingError, StoreError, StoreFullError
from backupd.model.ids import ObjectName
from backupd.store.base import ObjectInfo
from backupd.store.forwarding import ForwardingStore

T = TypeVar("T")


class OwnFolder(ForwardingStore):
    """The port over a folder of the state; its errors name the state folder, and keep their families."""

    def call(self, method: str, name: str, effect: Callable[[], T]) -> T:  # noqa: ARG002 - the same for all methods
        try:
            return effect()
        except ObjectExistsError:
            raise
        except ObjectMissingError as error:
            raise ObjectMissingError(
                f"'{name}' is not in this machine's state folder",
                hint="If somebody removed it meanwhile, run it again: it is read from the stores then.",
            ) from error
        except StoreFullError as error:
            raise StoreFullError(
                "the disk of this machine's state folder has no room",
                hint="Make room on the disk that holds node.state_dir, then run it again.",
            ) from error
        except StoreError as error:
            raise type(error)(
                error.message.replace("the store", "this machine's state folder", 1),
                hint="Check the disk that holds node.state_dir, its owner and mode.",
            ) from error

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        return iter(self.call("list", prefix, lambda: [*self.inner.list(prefix)]))
