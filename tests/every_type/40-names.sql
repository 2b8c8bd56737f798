-- Names that must be quoted.
CREATE SCHEMA "zoo ""quoted"" schéma";
CREATE SCHEMA "Zoo.Capital";
CREATE TABLE "zoo ""quoted"" schéma"."select" ("a b" int PRIMARY KEY, "from" text, "semi;colon" text, "it's" text, "back\slash" text, "100%" text, "tab	in" text, "UPPER" text, "ünïcödé 👍" text);
INSERT INTO "zoo ""quoted"" schéma"."select" VALUES (1, 'f', ';', '''', '\', '%', E'\t', 'U', '👍');
CREATE TABLE "zoo ""quoted"" schéma"."per.iod ""x"" \N $1 -- no" ("select" int REFERENCES "zoo ""quoted"" schéma"."select" ("a b"));
INSERT INTO "zoo ""quoted"" schéma"."per.iod ""x"" \N $1 -- no" VALUES (1), (NULL);
CREATE INDEX "in;dex" ON "zoo ""quoted"" schéma"."select" ("UPPER" DESC NULLS LAST);
CREATE SEQUENCE "Zoo.Capital"."Se quence" START 5 INCREMENT -3 MINVALUE -100 MAXVALUE 5 CYCLE;
SELECT nextval('"Zoo.Capital"."Se quence"') FROM generate_series(1, 3);
CREATE VIEW "Zoo.Capital"."View"" " AS SELECT "a b" AS "x y" FROM "zoo ""quoted"" schéma"."select";
COMMENT ON COLUMN "zoo ""quoted"" schéma"."select"."a b" IS E'comment with ''quotes'', \\ and\nlines';
ALTER TABLE "zoo ""quoted"" schéma"."select" OWNER TO "zoo ""odd"" rôle";
GRANT SELECT ("a b"), UPDATE ("from") ON "zoo ""quoted"" schéma"."select" TO "Zoo_Capital";
