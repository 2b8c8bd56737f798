#!/usr/bin/env bash
# PGlite: after pgDump, the application can write no more; and after COMMIT it finds none of its tables.
#
# One would guess that a dump only reads. The database has one session, which pgDump uses for pg_dump's own: it puts
# search_path back as it was, and leaves open the transaction in which pg_dump read:
#
#   INSERT               "cannot execute INSERT in a read-only transaction"
#   then SELECT          "current transaction is aborted, commands ignored until end of transaction block"
#   COMMIT, then INSERT  'relation "t" does not exist': with the transaction goes the search_path; row_security is off
#   SET search_path      INSERT works
#
# The dump itself is right. One of a copy, by clone(), leaves the application alone.
#
# Seen with @electric-sql/pglite-tools 0.4.8 and @electric-sql/pglite 0.5.8, which it asks for, Node.js 20.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

cd "$work"
npm install --silent --no-audit --no-fund @electric-sql/pglite@0.5.8 @electric-sql/pglite-tools@0.4.8 >said
cat >ask.mjs <<'JAVASCRIPT'
import { PGlite } from "@electric-sql/pglite";
import { pgDump } from "@electric-sql/pglite-tools/pg_dump";

async function outcome(what, done) {
  try {
    const result = await done();
    console.log(`${what}: ${result?.rows?.length ? JSON.stringify(result.rows) : "done"}`);
  } catch (error) {
    console.log(`${what}: ${error.message}`);
  }
}

const database = await PGlite.create();
const ask = (query) => outcome(query, () => database.query(query));
await database.exec("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
await outcome("dump of a clone", async () => pgDump({ pg: await database.clone() }));
await ask("INSERT INTO t VALUES (2)");
const dump = await (await pgDump({ pg: database })).text();
console.log("rows in the dump:", dump.split("\n").filter((line) => line.startsWith("INSERT INTO public.t")).length);
await ask("INSERT INTO t VALUES (3)");
await ask("SELECT count(*) FROM t");
await ask("COMMIT");
await ask("INSERT INTO t VALUES (3)");
await ask("SHOW row_security");
await ask("SET search_path = public");
await ask("INSERT INTO t VALUES (3)");
await ask("SELECT count(*) FROM t");
process.exit();
JAVASCRIPT
expect "outcomes" 'dump of a clone: done
INSERT INTO t VALUES (2): done
rows in the dump: 2
INSERT INTO t VALUES (3): cannot execute INSERT in a read-only transaction
SELECT count(*) FROM t: current transaction is aborted, commands ignored until end of transaction block
COMMIT: done
INSERT INTO t VALUES (3): relation "t" does not exist
SHOW row_security: [{"row_security":"off"}]
SET search_path = public: done
INSERT INTO t VALUES (3): done
SELECT count(*) FROM t: [{"count":3}]' "$(node ask.mjs)"
