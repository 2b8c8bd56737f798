"""The sentences for the codes in reports, and the questions of frameworks that a report answers, with their fields."""

from __future__ import annotations

from typing import Final, NamedTuple

FINDINGS: Final = {
    # Why a check was not made.
    "not-reached": "the drill had ended before this check",
    "not-configured": "nothing is configured for it",
    "not-asked": "not part of this drill",
    "no-tenants": "the snapshot holds rows of no tenant",
    "no-earlier-drill": "no earlier drill of an older snapshot to compare with",
    "one-tenant": "not made when one tenant is drilled",
    # Records, and what they lead to.
    "record-not-believed": "a record cannot be read, or nobody trusted signed it",
    "ledger-not-the-one-seen": "the ledger is older than, or another than, what a record's writer saw",
    "record-missing": "a record is gone that a later one follows",
    "object-damaged": "an object does not open, or holds other bytes than were sealed",
    "object-missing": "an object is gone, or of another size",
    # The restored database.
    "tables-not-mapped": "the configured tenancy does not cover a restored table",
    "table-missing": "a table is missing",
    "rows-lost": "a segment has fewer rows of a table than were backed up",
    "rows-added": "a segment has more rows of a table than were backed up",
    "rows-changed": "a segment has other rows of a table than were backed up",
    "large-objects-missing": "a large object is missing, or other than it was",
    "large-objects-added": "a large object is there that was not backed up",
    "schema-missing": "a table, view, function, privilege or comment is missing",
    "schema-added": "a table, view, function, privilege or comment is there that was not backed up",
    "schema-changed": "a table, view, function, privilege or comment is other than it was",
    "sequence-missing": "a sequence is missing",
    "sequence-lower": "a sequence stands lower than it stood, and would give numbers again",
    "sequence-higher": "a sequence stands higher than it stood",
    "sequence-added": "a sequence is there that was not backed up",
    "constraint-missing": "a constraint is missing",
    "constraint-added": "a constraint is there that was not backed up",
    "constraint-changed": "a constraint is other than it was",
    "view-unfilled": "a materialized view holds no rows, as its query fails on this server; it is no row of the backup",
    "key-to-purged-rows": "rows that are kept refer to rows that were purged, so a foreign key is checked for new rows "
    "only; this is no fault",
    "constraint-not-valid": "a constraint was valid, and is not any more",
    "index-missing": "an index is missing",
    "index-added": "an index is there that was not backed up",
    "index-changed": "an index is other than it was",
    "index-invalid": "an index is invalid, and no query uses it",
    "extension-missing": "an extension is missing",
    "extension-added": "an extension is there that was not backed up",
    "extension-changed": "an extension is made otherwise than it was",
    "extension-version": "an extension is of another version",
    "extension-schema": "an extension is in another schema",
    "collation-missing": "a collation is missing",
    "collation-version": "a collation is of another version here; its indexes were rebuilt, so this is no fault",
    "role-differs": "a role, a setting or a membership is missing, or other than it was",
    "role-added": "a role, a setting or a membership is there that was not backed up",
    # Age, size, promises.
    "older-than-objective": "the newest snapshot is older than the objective allows",
    "rows-fell-by-half": "less than half of the rows of the drill before are left",
    "rows-fell": "there are fewer rows than at the drill before; this is no fault",
    "rpo-missed": "more would be lost than the objective allows",
    "rto-missed": "the restore took longer than the objective allows",
    # Deletion.
    "canary-not-restored": "the tenant taken for purged had not come back before",
    "canary-came-back": "a second restore brought back rows of the tenant that its ledger says is purged",
    "canary-took-others": "a second restore without one tenant changed rows of others",
    "canary-key-opens-when-shredded": "a key opened though its line was taken out of the keyring",
    "purged-restored": "a purged segment was restored",
    "tenants-of-no-segment": "rows of a tenant are there that must have none",
    "rows-not-compared": "rows were not compared, so that nobody knows whose they are",
    "shredded-key-opens": "a key opened that the ledger says was shredded",
    "purge-under-way": "a purge is under way, and its keys open still; this is no fault yet",
    "escrow-refused": "the identity in escrow is no recipient",
    "escrow-lacks-key": "the identity in escrow does not open a key that the drill's opens",
    "escrow-key-differs": "the identity in escrow opens another key than the drill's does",
    # The control, and the end.
    "damage-not-noticed-by-check": "the check of every byte passed a damaged copy",
    "damage-not-noticed-by-restore": "a restore passed a damaged copy",
    "damage-not-done": "the damage never arrived, so that nothing could be noticed",
    "left-behind": "something of the drill, or of an earlier one, could not be removed",
    # What stopped a check, or the drill.
    "backupd": "an error of backupd itself",
    "usage": "nothing fits what was asked for",
    "config": "the configuration, or a file or program it names, does not fit",
    "source": "PostgreSQL refused",
    "sourcegone": "the connection to PostgreSQL broke",
    "sourcebusy": "PostgreSQL was busy, or it took longer than it may",
    "programkilled": "a signal ended a client program of PostgreSQL, as when memory runs out",
    "brokenkeys": "rows refer to rows that this restore left out or never had, so a foreign key could not be made",
    "extensionrefused": "the server of the drill could not make an extension of the database",
    "sourceauth": "PostgreSQL did not let the drill in",
    "workerlost": "a worker process ended without a word, as when memory runs out",
    "unmapped": "the configured tenancy does not cover a table",
    "store": "the store refused",
    "storegone": "the connection to the store broke",
    "storeauth": "the store did not let the drill in, or is not the one expected",
    "storefull": "the store has no room",
    "objectmissing": "an object is not on the store",
    "objectexists": "a name on the store is taken",
    "damage": "what is on the store is damaged, altered or missing",
    "keyrefused": "a key does not open what it should",
    "spoolfull": "there is no room for it on the disk",
    "refused": "it was refused as unsafe",
    "everythingpurged": "purges left nothing of the snapshot that could be restored",
    "busy": "somebody else is at it",
}
"""Sentences by code; FORMAT.md leaves open which codes there are."""
_OF_ASSERTIONS: Final = {
    "-returns-no-number": "returns no number",
    "-differs": "returns another number than expected",
}


def sentence(code: str) -> str:
    """Return the sentence for a code; a code of a later program, unknown here, is returned as it is."""
    if code in FINDINGS:
        return FINDINGS[code]
    for ending, meaning in _OF_ASSERTIONS.items():
        if code.endswith(ending):
            return f'the assertion "{code.removesuffix(ending)}" {meaning}'
    return code


class FrameworkQuestion(NamedTuple):
    """One question of a framework that a report answers."""

    framework: str
    question: str
    fields: tuple[str, ...]
    """Fields of the report's JSON, FORMAT.md §14, that hold the answer."""


QUESTIONS: Final = (
    FrameworkQuestion(
        "ISO/IEC 27001:2022 A.8.13",
        "Are backup copies tested regularly, as the policy on backup says?",
        ("started", "scheduled", "selection", "objectives.drill_every", "verdict"),
    ),
    FrameworkQuestion(
        "SOC 2 A1.2",
        "Do the backup and recovery processes operate, from a copy kept elsewhere?",
        ("selection.store", "selection.population", "checks.freshness", "versions"),
    ),
    FrameworkQuestion(
        "SOC 2 A1.3",
        "Are recovery procedures tested, and is restored data complete and unaltered?",
        ("checks.authentic", "checks.equality", "checks.sequences", "checks.constraints", "sizes"),
    ),
    FrameworkQuestion(
        "DORA Art. 12(2), (3)",
        "Is restoring tested periodically, on systems apart from the source?",
        ("type", "trigger", "machine", "checks.disposal", "disposal"),
    ),
    FrameworkQuestion(
        "DORA Art. 12(6), (7)",
        "Are recovery time and point objectives met, and was the restored data reconciled?",
        ("objectives", "measured", "phases", "checks.equality", "checks.comparison"),
    ),
    FrameworkQuestion(
        "GDPR Art. 32(1)(c)",
        "Can availability of and access to personal data be restored in time?",
        ("measured.rto", "objectives.rto", "measured.rpo", "objectives.rpo"),
    ),
    FrameworkQuestion(
        "GDPR Art. 32(1)(d)",
        "Is the effectiveness of the measures tested, assessed and evaluated regularly?",
        ("checks", "previous", "retest_of", "deletion", "checks.purged", "checks.canary"),
    ),
)
