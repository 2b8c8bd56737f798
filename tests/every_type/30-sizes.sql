-- Extremes of size: one field of 64 MB, a thousand columns, none, no rows, dropped columns, rows of mixed width.
CREATE TABLE zoo.huge (id int PRIMARY KEY, t text, b bytea);
INSERT INTO zoo.huge VALUES (1, repeat(E'0123456789abcde\n', 4194304), NULL), (2, '', ''), (3, NULL, decode(repeat('00ff5c', 1000000), 'hex'));

DO $$ BEGIN
  EXECUTE 'CREATE TABLE zoo.wide (' || (SELECT string_agg(format('c%s %s', n, (ARRAY['int', 'text', 'bool', 'date'])[1 + n % 4]), ', ') FROM generate_series(1, 1000) n) || ')';
  EXECUTE 'INSERT INTO zoo.wide SELECT ' || (SELECT string_agg((ARRAY['n', '''t'' || n', 'n % 2 = 0', 'NULL'])[1 + n % 4], ', ') FROM generate_series(1, 1000) n) || ' FROM generate_series(1, 20) n';
END $$;

CREATE TABLE zoo.no_columns ();
INSERT INTO zoo.no_columns SELECT FROM generate_series(1, 7);
CREATE TABLE zoo.no_columns_left (a int);
INSERT INTO zoo.no_columns_left VALUES (1), (2);
ALTER TABLE zoo.no_columns_left DROP COLUMN a;
CREATE TABLE zoo.no_rows (id int PRIMARY KEY, t text);
CREATE TABLE zoo.nothing ();

CREATE TABLE zoo.dropped (a int, gone text, b int, lost int, c text DEFAULT 'c');
INSERT INTO zoo.dropped SELECT n, 'x', n * 2, 3 FROM generate_series(1, 5) n;
ALTER TABLE zoo.dropped DROP COLUMN gone, DROP COLUMN lost, ADD COLUMN late int NOT NULL DEFAULT 42;
INSERT INTO zoo.dropped VALUES (6, 12, 'six', 7);

CREATE TABLE zoo.mixed (id int PRIMARY KEY, t text);
INSERT INTO zoo.mixed SELECT n, repeat(md5(n::text), n % 97) FROM generate_series(1, 3000) n;
UPDATE zoo.mixed SET t = t || 'u' WHERE id % 7 = 0;
DELETE FROM zoo.mixed WHERE id % 11 = 0;
