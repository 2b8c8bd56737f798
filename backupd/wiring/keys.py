"""This machine's keys, and whose it seals to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.wiring.places import Places

if TYPE_CHECKING:
    from backupd.config.text.secrets import FileRef
    from backupd.seal.documents import Signer
    from backupd.seal.keys.identity import Recipient
    from backupd.seal.keys.tags import TenantTags


@dataclass(frozen=True, slots=True)
class Keys(Places):
    """And of keys."""

    def tags(self, region: RegionName) -> TenantTags:
        """What stands for the region's tenants where names must not.

        Raises ConfigError when no tenant key is configured, or its file is not one.
        """
        from backupd.seal.keys.tags import TenantTags, read_tenant_key

        reference = self.config.node.tenant_key_file
        if reference is None:
            raise ConfigError(
                "this machine has no tenant key",
                hint="`backupd key generate --tenant-key FILE` makes one, the same for all machines; name it as "
                "tenant_key_file under [node].",
            )
        return TenantTags(read_tenant_key(reference.resolve(self.environ)), region)

    def signer(self) -> Signer:
        """This node's signing key.

        Raises ConfigError when none is configured, its file is not one, or nobody would trust what it signs.
        """
        reference = self.config.node.signing_key_file
        if reference is None:
            raise ConfigError(
                "this machine has no signing key",
                hint="`backupd key generate --signer FILE` makes one; name it as signing_key_file under [node].",
            )
        signer, trusted = self._signer(reference), self.trusted()
        if trusted is not None and signer.public not in trusted:
            raise ConfigError(
                "this machine's signing key is not among the trusted signers",
                hint=f'Add "{signer.public}" to `signers` under [trust], here and wherever backups are read.',
            )
        return signer

    def _signer(self, reference: FileRef) -> Signer:
        from backupd.seal.keys.signing import read_signer

        return read_signer(reference.resolve(self.environ))

    def recipients(self) -> list[Recipient]:
        """Who will be able to read what is backed up.

        Raises ConfigError for a file that is none.
        """
        from backupd.seal.keys.identity import read_recipient

        return [read_recipient(path) for path in self.config.recipients]
